// A rank in a thread of Node.

import { parentPort, workerData } from "node:worker_threads";

import { NodeFile, partsOf } from "./node.js";
import { RankMember } from "./ranks.js";
import { startRank, type RankStart, type Wanted } from "./session.js";

interface Job {
  tokens: number[];
  position: number;
  wanted: Wanted;
  unfinished: boolean;
}

const { path, start } = workerData as { path: string; start: RankStart };
const text = (error: unknown) => (error instanceof Error ? error.message : String(error));

try {
  const pipeline = await startRank(start, NodeFile.open(path), partsOf(path));
  parentPort!.on("message", (job: Job) => {
    pipeline.eval(job.tokens, job.position, job.wanted, job.unfinished).then(
      () => parentPort!.postMessage(undefined),
      (error: unknown) => parentPort!.postMessage(text(error)),
    );
  });
  parentPort!.postMessage(undefined);
} catch (error) {
  RankMember.join(start.shared, start.index, start.count).stop(text(error));
  parentPort!.postMessage(text(error));
}
