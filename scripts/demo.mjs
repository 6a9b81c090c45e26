/**
 * `npm run demo`: does the set-up, then tells the story of scripts/demo-story.mjs under Node 24, which GitHub runs the
 * actions on. `npm run demo -- --down` removes the demo's server.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import {
  buildExample,
  checkNode,
  checkServerHost,
  installPackages,
  node24,
  reportFailure,
  root,
  SetUpError,
} from './set-up.mjs';

const HELP = `npm run demo              deploys to a sandbox server on this machine while visitors are there: v1, v2,
                          a broken v3, a v4 that is cancelled, one whose runner is lost, and back to v1
npm run demo -- --down    removes that server
`;

/** A server of its own: neither the tests' nor the one that you may work with. */
const env = { ...process.env, SLIPWAY_SANDBOX: 'demo' };

async function main(args) {
  checkNode();
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = args.find((arg) => arg !== '--down');
  if (unknown !== undefined) throw new SetUpError(`The demo has no option ${unknown}.`, HELP.trimEnd());
  if (args.includes('--down')) {
    checkServerHost('npm run demo -- --down');
    return await run(process.execPath, [join(root, 'infra/sandbox/sandbox.mjs'), 'down']);
  }
  checkServerHost('npm run demo');
  process.stdout.write('Set-up\n');
  await installPackages();
  await buildExample();
  return await run(node24, [join(root, 'scripts/demo-story.mjs')]);
}

/** Ctrl-C reaches the child by itself; it says what there is to say. */
async function run(program, args) {
  const child = spawn(program, args, { cwd: root, env, stdio: 'inherit' });
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = reportFailure(error);
}
