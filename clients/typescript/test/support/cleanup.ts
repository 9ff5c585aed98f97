import { setTimeout as sleep } from "node:timers/promises";

/** How long the tests wait for what has to happen. They go on as soon as it has. */
export const PATIENCE_MS = 30_000;

/** Answers as soon as `probe` answers something true, asking again and again. */
export async function eventually<Result>(what: string, probe: () => Promise<Result>): Promise<NonNullable<Result>> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const result = await probe();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`in ${PATIENCE_MS} ms it did not happen that ${what}`);
    await sleep(20);
  }
}

/** Undoes, last first, what a test or a suite has started. */
export class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  async run(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) await step();
  }
}
