/**
 * The cases are in `rollable/`: what the user wrote, what Docker Compose 2.26 renders of it, and the whole patch. That the
 * patches apply, and what comes out of them, is in rollable.itg.test.ts.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseProject } from '../../src/compose/project';
import { chooseStrategies } from '../../src/strategies/choose';
import { suggestPatch } from '../../src/strategies/rollable';

const read = (name: string, file: string): string =>
  readFileSync(join(import.meta.dirname, 'rollable', name, file), 'utf8');

function suggest(path: string, text: string, rendered: string): string {
  const project = parseProject(rendered);
  return suggestPatch({ path, text }, project.services, chooseStrategies(project, []).strategies);
}

test.each(['list', 'flow', 'anchors', 'long', 'crlf', 'taken', 'nothing'])('the case %s', (name) => {
  const patch = suggest(
    name === 'long' ? 'deploy/compose.yaml' : 'compose.yaml',
    read(name, 'compose.txt'),
    read(name, 'rendered.txt'),
  );
  expect(patch).toBe(read(name, 'expected.diff'));
});

const app = (more: string): string => `services:\n  app:\n    image: ghcr.io/acme/app:1\n${more}`;
const port = 'ports: [{ target: 3000, published: "8080", protocol: tcp }]';

describe('nothing is suggested', () => {
  test.each([
    ['for no YAML', 'services: [', app(`    ${port}\n`)],
    ['for no mapping', '- services', app(`    ${port}\n`)],
    ['for services on one line', "services: { app: { image: x, ports: ['8080:3000'] } }", app(`    ${port}\n`)],
    ['for a service of another file', 'services:\n  other: {}\n', app(`    ${port}\n`)],
    ['for ports of another file', app('    environment: {}\n'), app(`    ${port}\n`)],
    ['for a port that is a variable inside, too', app("    ports: ['8080:${PORT}']\n"), app(`    ${port}\n`)],
    ['for a port that cannot be read', app("    ports: ['8080;:3000']\n"), app(`    ${port}\n`)],
    [
      'for ports that are tagged',
      app("    ports: !override ['8080:3000']\n    ports: ['1:1']\n"),
      app(`    ${port}\n`),
    ],
    [
      'where an anchor would be lost',
      `${app("    ports: &p ['8080:3000']\n")}  two:\n    image: x\n    ports: *p\n`,
      app(`    ${port}\n`),
    ],
    [
      'where a name is used by others',
      app("    container_name: known\n    ports: ['8080:3000']\n    environment: { URL: 'http://known/' }\n"),
      app(`    container_name: known\n    ${port}\n`),
    ],
    [
      'for data',
      app("    ports: ['8080:3000']\n    volumes: ['data:/data']\n"),
      app(`    ${port}\n    volumes: [{ type: volume, source: data, target: /data }]\n`),
    ],
    [
      'for databases without data',
      app("    ports: ['5432:5432']\n"),
      app(`    ports: [{ target: 5432, published: "5432", protocol: tcp }]\n`),
    ],
    [
      'for TLS',
      app("    ports: ['443:443']\n"),
      app(`    ports: [{ target: 443, published: "443", protocol: tcp }]\n`),
    ],
    [
      'for the network of the server',
      app("    ports: ['8080:3000']\n    network_mode: host\n"),
      app(`    ${port}\n    network_mode: host\n`),
    ],
  ])('%s', (_name, text, rendered) => {
    expect(suggest('compose.yaml', text, rendered)).toBe('');
  });
});

test('a host port as the user wrote it, whatever that is', () => {
  const text = app("    ports: ['${ADDRESS:-127.0.0.1}:${PORT:-8080}:3000']\n");
  expect(suggest('./sub/../compose.yaml', text, app(`    ${port}\n`))).toContain(
    "+      - '${ADDRESS:-127.0.0.1}:${PORT:-8080}:3000'\n",
  );
  expect(suggest('compose.yaml', app("    ports: ['[::1]:8080:3000']\n"), app(`    ${port}\n`))).toContain(
    "+      - '[::1]:8080:8080'\n",
  );
  expect(suggest('compose.yaml', app("    ports: ['8080:3000']\n"), app(`    ${port}\n`))).toMatch(
    /^--- a\/compose.yaml\n\+\+\+ b\/compose.yaml\n/,
  );
});

test('a pinned image of a proxy is a proxy', () => {
  for (const image of [
    'traefik:v3',
    'docker.io/library/nginx@sha256:abc',
    'registry:5000/caddy',
    'bitnami/postgresql:16',
  ]) {
    const text = app("    ports: ['8080:3000']\n").replace('ghcr.io/acme/app:1', image);
    expect(suggest('compose.yaml', text, app(`    ${port}\n`).replace('ghcr.io/acme/app:1', image))).toBe('');
  }
});
