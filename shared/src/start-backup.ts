/** The composition root of an action that takes backups: only its bundle holds the libraries for them. */
import { ageCipher } from './adapters/age';
import { spareMemory } from './adapters/garbage';
import { openObjectStore } from './adapters/object-store';
import type { BackupPorts } from './ports';
import { start } from './start';

/** As `start`, with what backups need beside. */
export function startBackup(run: (ports: BackupPorts) => Promise<void>): Promise<void> {
  spareMemory();
  return start((ports) => run({ ...ports, cipher: ageCipher, openObjectStore }));
}
