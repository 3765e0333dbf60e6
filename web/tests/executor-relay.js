// Carries frames between the runner of the suite and a worker that waits in memory that both share. What the
// worker says is an answer, the shared memory, a text for the runner, or that it has taken a piece.

const socket = new WebSocket(`ws://${location.host}/exchange`);
socket.binaryType = "arraybuffer";
socket.onopen = () => postMessage("ready");
let words, piece, frame, at;

function hand() {
  piece.set(frame.subarray(at, at + piece.byteLength));
  at += piece.byteLength;
  wake(frame.byteLength);
}

function wake(length) {
  words[1] = length;
  Atomics.store(words, 0, 1);
  Atomics.notify(words, 0);
}

socket.onmessage = ({ data }) => {
  [frame, at] = [new Uint8Array(data), 0];
  hand();
};
socket.onclose = () => wake(-1);
onmessage = ({ data }) => {
  if (data instanceof SharedArrayBuffer) [words, piece] = [new Int32Array(data, 0, 2), new Uint8Array(data, 8)];
  else if (data === undefined) hand();
  else socket.send(data);
};
