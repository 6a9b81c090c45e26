import { startBackup } from '#shared/start-backup';
import { run } from './run';

void startBackup(run);
