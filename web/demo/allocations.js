// Tries sizes of memories: in one or several 32-bit memories, and in a 64-bit one.

const $ = (id) => document.getElementById(id);
let worker;
let stop;

function trial(is64, gib, regions) {
  return new Promise((resolve) => {
    stop = () => resolve({ ok: false, text: "stopped" });
    worker = new Worker("allocations-worker.js");
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => {
      event.preventDefault();
      resolve({ ok: false, text: `the worker has ended, probably for want of memory (${event.message || "no reason given"})` });
    };
    worker.postMessage({ is64, gib, regions });
  }).finally(() => worker.terminate());
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("start").disabled = true;
  $("stop").disabled = false;
  const body = $("results").tBodies[0];
  body.replaceChildren();
  let stopped = false;
  $("stop").onclick = () => {
    stopped = true;
    stop();
  };
  const most = Math.min(10, $("most").valueAsNumber || 4);
  for (const is64 of [false, true]) {
    for (let gib = 1; gib <= most && !stopped; gib += 1) {
      const kind = is64 ? "one of 64 bits" : `${gib > 4 ? Math.ceil(gib / 4) : 1} of 32 bits`;
      $("state").textContent = `Trying ${gib} GiB in ${kind} ...`;
      const { ok, text } = await trial(is64, gib, $("regions").valueAsNumber || 4);
      const row = body.insertRow();
      [kind, String(gib), text].forEach((it) => (row.insertCell().textContent = it));
      row.classList.toggle("bad", !ok);
      if (!ok) break;
    }
  }
  $("state").textContent = stopped ? "Stopped." : "Done.";
  $("start").disabled = false;
  $("stop").disabled = true;
});
