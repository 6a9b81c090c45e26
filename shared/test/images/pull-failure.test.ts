import { explainPullFailure } from '../../src/images/pull-failure';
import { expectReference } from '../../src/images/reference';

/** Recorded from Docker Engine 26.1 (both image stores where they differ) and from public registries. */
test.each<[string, string, { readonly passing?: boolean; readonly refused?: boolean; readonly hint?: string }]>([
  [
    'failed to register layer: write /usr/bin/redis-check-aof: no space left on device',
    'The disk of deploy@server is full',
    { hint: 'docker system df' },
  ],
  [
    'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?',
    'Docker on deploy@server cannot be used',
    {},
  ],
  [
    'permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock',
    'cannot be used',
    { hint: 'group docker' },
  ],
  ['sh: 1: docker: not found', 'cannot be used', {}],
  [
    'toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating',
    'Registry ghcr.io answers no more for now',
    { hint: 'Log in' },
  ],
  [
    'Error response from daemon: Get "https://ghcr.io/v2/": http: server gave HTTP response to HTTPS client',
    'Registry ghcr.io does not speak TLS',
    { hint: '"insecure-registries": ["ghcr.io"]' },
  ],
  [
    'Get "https://ghcr.io/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
    'The TLS certificate of registry ghcr.io',
    { hint: '/etc/docker/certs.d/ghcr.io/ca.crt' },
  ],
  [
    'no matching manifest for linux/arm64/v8 in the manifest list entries',
    'is not made for the platform of deploy@server',
    {},
  ],
  [
    'image with reference docker.io/library/busybox:1 was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64',
    'is not made for the platform',
    {},
  ],
  [
    'Head "http://10.0.0.1:5001/v2/library/redis/manifests/7": no basic auth credentials',
    'Registry ghcr.io does not show ghcr.io/acme/web to deploy@server',
    { refused: true },
  ],
  [
    "pull access denied for acme/web, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
    'does not show',
    { refused: true },
  ],
  [
    'error pulling image configuration: download failed after attempts=1: unauthorized: authentication required',
    'does not show',
    { refused: true },
  ],
  [
    'manifest for ghcr.io/acme/web:9 not found: manifest unknown: manifest unknown',
    'Registry ghcr.io has no image ghcr.io/acme/web with tag 9',
    {},
  ],
  [
    'failed to resolve reference "ghcr.io/acme/web:9": ghcr.io/acme/web:9: not found',
    'has no image ghcr.io/acme/web with tag 9',
    {},
  ],
  [
    'Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io on 127.0.0.53:53: no such host',
    'deploy@server cannot find registry ghcr.io',
    {},
  ],
  [
    'Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io on 10.0.0.1:53: server misbehaving',
    'cannot find registry',
    { passing: true },
  ],
  [
    'Get "https://ghcr.io/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)',
    'could not be pulled',
    { passing: true },
  ],
  ['Get "https://ghcr.io/v2/": net/http: TLS handshake timeout', 'could not be pulled', { passing: true }],
  ['dial tcp 10.0.0.1:5000: connect: connection refused', 'could not be pulled', { passing: true }],
  ['read tcp 10.0.0.2:1->10.0.0.1:5000: read: connection reset by peer', 'could not be pulled', { passing: true }],
  ['unexpected EOF', 'could not be pulled', { passing: true }],
  ['received unexpected HTTP status: 503 Service Unavailable', 'could not be pulled', { passing: true }],
  ['received unexpected HTTP status: 418 I am a teapot', 'could not be pulled', {}],
  ['something new', 'could not be pulled', { hint: 'docker pull' }],
])('%s', (said, message, { passing = false, refused = false, hint = '' }) => {
  const failure = explainPullFailure(said, expectReference('ghcr.io/acme/web:9'), 'deploy@server', undefined);
  expect(failure).toMatchObject({ passing, refused });
  expect(failure.error.message).toContain(message);
  expect(failure.error.hint).toContain(hint);
  expect(failure.error.hint).not.toBe('');
});

test('with a login', () => {
  const image = expectReference(`ghcr.io/acme/web@sha256:${'a'.repeat(64)}`);
  expect(explainPullFailure('denied: denied', image, 'server', 'deploy').error.message).toBe(
    'Registry ghcr.io does not let user "deploy" pull ghcr.io/acme/web: the login is wrong, the user may not read it, or it does not exist. Docker says: denied: denied',
  );
  expect(explainPullFailure('toomanyrequests', image, 'server', 'deploy').error.hint).toContain('Wait');
  expect(explainPullFailure('manifest unknown', image, 'server', 'deploy').error.message).toContain(
    `with digest sha256:${'a'.repeat(64)}`,
  );
});

test('what Docker says is shortened and without control characters', () => {
  const { error } = explainPullFailure(
    `\u001b[31m::error::x\r\n${'a'.repeat(5000)}`,
    expectReference('web'),
    'server',
    undefined,
  );
  expect(error.message).not.toMatch(/[\u0000-\u001f]/);
  expect(error.message.length).toBeLessThan(700);
});
