import { freshServer, publishApp, projectFiles, deploy, serverState, get, appImage, buildExample, startSandbox } from './sandbox.ts';
import { jest } from '@jest/globals';
jest.setTimeout(60_000);
test('smoke', async () => {
  const t = performance.now(); const lap = (w: string) => console.log(w, Math.round(performance.now() - t));
  await startSandbox(); lap('up');
  await freshServer(); lap('reset');
  await publishApp('v1'); await publishApp('v2'); lap('publish');
  const c = await projectFiles({ 'compose.yaml': `services:\n  app:\n    image: ${appImage('v1')}\n    ports: ['8080:3000']\n` });
  const run = await deploy(c); lap('deploy');
  console.log(run.log, run.outputs, run.summary, run.durationMs);
  console.log(await get(8080)); const s = await serverState(); lap('state'); console.log(s);
  console.log(await buildExample('v1')); lap('build');
  console.log(await buildExample('v2')); lap('build');
});
