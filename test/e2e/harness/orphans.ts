/** What a job leaves running, found by its tracking id as the runner finds it at the end of a job. */
import { readdirSync, readFileSync } from 'node:fs';

export interface Orphan {
  readonly pid: number;
  readonly argv: readonly string[];
}

/** Processes of ours that carry `RUNNER_TRACKING_ID=<id>` in the environment they were started with. */
export function findTracked(trackingId: string): Orphan[] {
  const mark = `RUNNER_TRACKING_ID=${trackingId}`;
  return readProcesses().flatMap((pid) => {
    if (pid === process.pid || !readProcFile(pid, 'environ').split('\0').includes(mark)) return [];
    return [{ pid, argv: readArgv(pid) }];
  });
}

/** Kills them, and what they start meanwhile. @returns those that were there */
export function killTracked(trackingId: string): Orphan[] {
  const killed = new Map<number, Orphan>();
  for (let round = 0; round < 10; round++) {
    const found = findTracked(trackingId).filter(({ pid }) => !isZombie(pid));
    if (found.length === 0) break;
    for (const orphan of found) {
      killed.set(orphan.pid, killed.get(orphan.pid) ?? orphan);
      try {
        process.kill(orphan.pid, 'SIGKILL');
      } catch {
        // It was faster.
      }
    }
  }
  return [...killed.values()];
}

function isZombie(pid: number): boolean {
  return / Z /.test(readProcFile(pid, 'stat').replace(/^.*\)/s, ''));
}

export function readProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

export function readArgv(pid: number): string[] {
  const text = readProcFile(pid, 'cmdline');
  return text === '' ? [] : text.replace(/\0$/, '').split('\0');
}

function readProcFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    // Gone, or another user's.
    return '';
  }
}
