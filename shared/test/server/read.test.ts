import { readFileSync } from 'node:fs';
import { CancelledError, ServerAnswerError } from '../../src/errors';
import { readServerFacts } from '../../src/server/read';
import { FakeSession } from '../fakes/session';

const recorded = readFileSync(new URL('./answers/docker-ready.txt', import.meta.url), 'utf8');

test('asks once, with a token that nobody knows before', async () => {
  const tokens: string[] = [];
  const session = new FakeSession(({ command }) => {
    const token = command.words[4] ?? '';
    tokens.push(token);
    return { stdout: recorded.replaceAll('TOKEN0123', token) };
  });
  for (let time = 0; time < 2; time++)
    expect((await readServerFacts(session, 'apps/shop', 'shop')).user).toBe('deploy');
  expect(session.purposes).toEqual(['look at the server', 'look at the server']);
  expect(tokens[0]).toMatch(/^slipway-[0-9a-f]{32}$/);
  expect(tokens[0]).not.toBe(tokens[1]);
});

test('an answer without the token is an error', async () => {
  await expect(readServerFacts(new FakeSession(() => ({ stdout: recorded })), 'apps/shop', 'shop')).rejects.toThrow(
    ServerAnswerError,
  );
});

test('can be cancelled', async () => {
  await expect(readServerFacts(new FakeSession(), 'apps/shop', 'shop', AbortSignal.abort())).rejects.toThrow(
    CancelledError,
  );
});
