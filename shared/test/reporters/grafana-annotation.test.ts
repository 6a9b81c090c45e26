import fc from 'fast-check';
import {
  isOnServer,
  judgeAnswer,
  parseGrafanaToken,
  parseGrafanaUrl,
  type ReleaseEvent,
  renderAnnotation,
} from '../../src/reporters/grafana-annotation';

test('an address, with or without a path', () => {
  expect(parseGrafanaUrl('https://grafana.example/')).toEqual({ value: 'https://grafana.example' });
  expect(parseGrafanaUrl('http://[::1]:3000/grafana/')).toEqual({ value: 'http://[::1]:3000/grafana' });
});

test('localhost, as DNS writes it, is known to the server as localhost', () => {
  expect(parseGrafanaUrl('http://localhost.:3000/x')).toEqual({ value: 'http://localhost:3000/x' });
  expect(parseGrafanaUrl('http://127.1:3000')).toEqual({ value: 'http://127.0.0.1:3000' });
});

test.each([
  ['', 'is not an address'],
  ['x', 'is not an address'],
  ['ftp://grafana.example', 'is not an address'],
  ['http://grafana.example', 'shows the token'],
  ['http://10.0.0.1:3000', 'shows the token'],
  ['http://localhost.example', 'shows the token'],
  ['https://admin:hunter2@grafana.example', 'has a login in it'],
  ['https://grafana.example/d/abc?orgId=1', 'is the address of a page'],
])('%s is refused, and not shown', (url, message) => {
  const parsed = JSON.stringify(parseGrafanaUrl(url));
  expect(parsed).toContain(message);
  expect(parsed).not.toContain('hunter2');
});

test('a token that no header can carry is refused, and not shown', () => {
  for (const token of ['hunter2 hunter2', 'hunter2\nhunter2', 'schlüssel-hunter2']) {
    const parsed = parseGrafanaToken(token);
    expect(parsed).toHaveProperty('problem');
    expect(JSON.stringify(parsed)).not.toContain('hunter2');
  }
  for (const token of ['', 'glsa_x']) expect(parseGrafanaToken(token)).toHaveProperty('value');
});

test('a Grafana of the server itself', () => {
  const known = { 'http://127.0.0.1:3000': true, 'http://localhost:3000/x': true, 'http://[::1]:3000': true };
  for (const [url, here] of Object.entries({
    ...known,
    'https://127.0.0.1.example': false,
    'http://10.0.0.1': false,
  })) {
    expect([url, isOnServer(url)]).toEqual([url, here]);
  }
});

const EVENT: ReleaseEvent = {
  task: 'deploy',
  project: 'shop',
  environment: 'production',
  release: '20261122T223100Z-ab12cd3',
  previous: '20261121T090000Z-9f8e7d6',
  commit: 'ab12cd3'.padEnd(40, '0'),
  runUrl: 'https://github.com/acme/shop/actions/runs/1',
  began: new Date('2026-11-22T22:31:00Z'),
  ended: new Date('2026-11-22T22:31:04.5Z'),
  result: 'deployed',
};

test('what is said of a release', () => {
  expect(renderAnnotation(EVENT)).toEqual({
    time: 1795386660000,
    timeEnd: 1795386664500,
    tags: ['slipway', 'shop', 'production', 'deployed'],
    text: 'Deployed: shop<br>release 20261122T223100Z-ab12cd3<br>commit ab12cd300000<br><a href="https://github.com/acme/shop/actions/runs/1">run</a>',
  });
  expect(renderAnnotation({ ...EVENT, environment: '', commit: '', runUrl: '', result: 'reverted' })).toMatchObject({
    tags: ['slipway', 'shop', 'reverted'],
    text: 'Failed, and put back: shop<br>release 20261122T223100Z-ab12cd3',
  });
  expect(renderAnnotation({ ...EVENT, previous: '', result: 'reverted' }).text).toMatch(
    /^Failed, and removed again: shop/,
  );
  expect(renderAnnotation({ ...EVENT, task: 'rollback', result: 'rolled-back' }).text).toMatch(/^Rolled back: shop/);
});

test('nothing that it is given becomes markup, and a clock that goes back makes no backward region', () => {
  fc.assert(
    fc.property(
      fc.record({ project: fc.string(), release: fc.string(), runUrl: fc.webUrl({ withQueryParameters: true }) }),
      (given) => {
        const { text } = renderAnnotation({ ...EVENT, ...given });
        expect(text.match(/<[^>]*>/g)?.filter((tag) => tag !== '<br>').length).toBe(2);
        expect(/href="[^"]*">run<\/a>$/.test(text)).toBe(true);
      },
    ),
  );
  expect(renderAnnotation({ ...EVENT, runUrl: 'javascript:alert(1)' }).text).not.toContain('javascript');
  const { time, timeEnd } = renderAnnotation({ ...EVENT, ended: new Date(0) });
  expect(timeEnd).toBe(time);
});

test('what an answer means', () => {
  expect(judgeAnswer({ status: 200, body: '{"message":"Annotation added","id":1}' })).toBeUndefined();
  expect(judgeAnswer({ status: 200, body: '<html>login</html>' })).toContain('not Grafana');
  expect(judgeAnswer({ status: 401, body: '' })).toContain('does not accept the token');
  expect(judgeAnswer({ status: 403, body: '' })).toContain('annotations:create');
  expect(judgeAnswer({ status: 404, body: '' })).toContain('grafana-url');
  expect(judgeAnswer({ status: 302, body: '' })).toContain('elsewhere');
  expect(judgeAnswer({ status: 500, body: 'glsa_x' })).toBe('it answered 500');
});
