/** The distribution's own nginx. A current one is tried in test/e2e/nginx.test.ts. */
import { describeBehaviour } from './behaviour.ts';
import { startDebianMachine } from './machine.ts';

describeBehaviour(startDebianMachine);
