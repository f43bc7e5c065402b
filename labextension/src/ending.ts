import { isStale, replaceOutputs } from './notebooks';
import { fetchOutput } from './server';

/** Time that the kernel has to write the end of a run into the notebook itself. */
const KERNEL_MS = 3_000;
/** Pages that show the same notebook don't write at the same moment. */
const SPREAD_MS = 2_000;

const waiting = new Set<string>();

/** Writes the end of a run into the open notebooks that show it, unless their kernel does so. */
export async function keepEnd(runId: string, state: string): Promise<void> {
  if (waiting.has(runId)) {
    return;
  }
  waiting.add(runId);
  try {
    await new Promise(resolve => setTimeout(resolve, KERNEL_MS + Math.random() * SPREAD_MS));
    if (isStale(runId, state)) {
      replaceOutputs(runId, await fetchOutput(runId));
    }
  } finally {
    waiting.delete(runId);
  }
}
