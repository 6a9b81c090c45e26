/** The composition root of an action that takes backups: only its bundle holds the libraries for them. */
import { setFlagsFromString } from 'node:v8';
import { ageCipher } from './adapters/age';
import { openObjectStore } from './adapters/object-store';
import type { BackupPorts } from './ports';
import { start } from './start';

/** As `start`, with what backups need beside. */
export function startBackup(run: (ports: BackupPorts) => Promise<void>): Promise<void> {
  // What streams is garbage at once, and the space for what is new would grow with it by some 60 MB: measured, see BENCHMARKS.md.
  setFlagsFromString('--semi-space-growth-factor=1');
  return start((ports) => run({ ...ports, cipher: ageCipher, openObjectStore }));
}
