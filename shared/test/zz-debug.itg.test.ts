import { test } from '@jest/globals';
import { connectSsh } from '../src/adapters/ssh-session';
import { startSshServer, startPlainServer } from './ssh-server';
test('t', async () => {
  const server = await startSshServer();
  const s = await connectSsh(server.host(), {}, (t) => t);
  for (let i = 0; i < 3; i++) {
  const t0 = performance.now();
  await s.run({ words: ['true'] });
  console.log('run', performance.now() - t0);
  }
  const p = s.run({ words: ['sleep', '30'] }, { timeoutSeconds: 0.3 }).catch((e: unknown) => { console.log(String(e)); });
  await p;
  await new Promise((r) => setTimeout(r, 300));
  console.log(server.commands, server.signals);
  await s.close();
  await server.close();
  const rude = await startPlainServer((socket) => { socket.resetAndDestroy(); });
  await connectSsh({ ...server.host(), port: rude.port }, {}, (t) => t).catch((e: unknown) => { console.log(String(e), (e as Error).cause); });
  await rude.close();
});
