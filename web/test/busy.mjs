// How busy the machine is with other things: limits of time hold for a machine that does nothing else.

import { Worker } from "node:worker_threads";

const SPIN = `
const { parentPort } = require("node:worker_threads");
const begun = performance.now();
while (performance.now() - begun < 250);
parentPort.postMessage(performance.now() - begun);
`;

/** How many times as slow as two good cores the machine is taken to be even at rest. */
const SLOWNESS = Number(process.env.SLOWNESS ?? 1);

/** Seconds on the wall for a second of work on two good cores, at least 1. */
export async function busy() {
  const begun = process.cpuUsage();
  const spins = [1, 2].map(() => new Promise((resolve) => new Worker(SPIN, { eval: true }).once("message", resolve)));
  const wall = (await Promise.all(spins)).reduce((sum, one) => sum + one, 0);
  const { user, system } = process.cpuUsage(begun);
  return SLOWNESS * Math.max(1, (wall * 1000) / (user + system));
}

/** The factor for what was measured between two looks. */
export async function during(work) {
  const before = await busy();
  const result = await work();
  const factor = Math.max(before, await busy());
  return { result, factor };
}

/** Whether something took no longer than a limit, which is stretched only where that matters. */
export async function within(milliseconds, most) {
  return milliseconds < most || milliseconds < most * (await busy());
}
