import { startCertificates } from '#shared/start-certificates';
import { run } from './run';

void startCertificates(run);
