import { start } from '#shared/start';
import { run } from './run';

void start(run);
