import { ImageError, RequestError } from '../../src/errors';
import { askRegistries } from '../../src/images/ask';
import { type DaemonFacts, parseDaemon } from '../../src/images/daemon';
import type { Http, HttpRequest, HttpResponse } from '../../src/ports';
import { FakeClock } from '../fakes/clock';
import { FakeSession } from '../fakes/session';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const daemon = parseDaemon(JSON.stringify({ OSType: 'linux', Architecture: 'x86_64' }));
const HEAD: HttpResponse = {
  status: 200,
  headers: { 'docker-content-digest': DIGEST },
  body: '',
  truncated: false,
} as never;

function open(
  answer: (request: HttpRequest) => Promise<HttpResponse>,
  { isPresent, ...facts }: { daemon?: Promise<DaemonFacts>; isPresent?: Promise<boolean> } = {},
): { ask: ReturnType<typeof askRegistries>; asked: string[] } {
  const asked: string[] = [];
  const http: Http = {
    request: (request) => {
      asked.push(`${request.method} ${request.url}`);
      return answer(request);
    },
    reach: () => Promise.reject(new RequestError('refused', 'refused', '')),
  };
  const ask = askRegistries({
    http,
    clock: new FakeClock(),
    session: new FakeSession(() => new ImageError('not expected', '')),
    credentials: undefined,
    signal: undefined,
    daemon: facts.daemon ?? Promise.resolve(daemon),
    isPresent: () => isPresent ?? Promise.resolve(true),
  });
  return { ask, asked };
}

test('a registry is asked before it is known what the server has, and then no more', async () => {
  const facts = Promise.withResolvers<boolean>();
  const sent = Promise.withResolvers<undefined>();
  const { ask, asked } = open(
    () => {
      sent.resolve(undefined);
      return Promise.resolve(HEAD);
    },
    { isPresent: facts.promise },
  );
  const answer = ask('ghcr.io/acme/web:1');
  await sent.promise;
  expect(asked).toEqual(['HEAD https://ghcr.io/v2/acme/web/manifests/1']);
  facts.resolve(true);
  expect(await answer).toMatchObject({ kind: 'resolved', pinned: `ghcr.io/acme/web:1@${DIGEST}`, present: true });
  await ask('ghcr.io/acme/web:1');
  expect(asked).toHaveLength(1);
});

test('what is wrong with an image is an answer, and what is wrong with the server is thrown', async () => {
  const { ask } = open(() => Promise.reject(new RequestError('refused', 'refused', '')));
  expect(await ask('ghcr.io/acme/web:1')).toBeInstanceOf(ImageError);
  expect(await ask('UPPER')).toBeInstanceOf(ImageError);
  const lost = new Error('lost');
  await expect(open(() => Promise.reject(lost)).ask('ghcr.io/acme/web:1')).rejects.toBe(lost);
});

test('who asked ahead and never came back ends nothing', async () => {
  const { ask } = open(() => Promise.resolve(HEAD), { daemon: Promise.reject(new Error('no daemon')) });
  void ask('ghcr.io/acme/web:1');
  await new Promise((resolve) => setTimeout(resolve, 10));
});
