import { isTagged, localTag, setTags, tagImages } from '../../src/commands/images';
import { Machine, SHELLS } from '../shells';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const web = `ghcr.io/acme/web:1@${digest('a')}`;
const db = `postgres@${digest('b')}`;

test('a local tag is the project and the digest', () => {
  expect(localTag('shop', web)).toBe(`slipway.local/shop:${'a'.repeat(32)}`);
});

test('only pinned images are ours to tag or to remove, each once', () => {
  expect(tagImages('shop', [web, 'redis:7', web, db]).words.slice(4)).toEqual([
    web,
    localTag('shop', web),
    db,
    localTag('shop', db),
  ]);
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  test('tags, and stops where docker refuses', () => {
    machine.withDocker('');
    expect(machine.run(tagImages('shop', [web, db])).exitCode).toBe(0);
    expect(machine.calls).toEqual([
      `<image><tag><${web}><${localTag('shop', web)}>`,
      `<image><tag><${db}><${localTag('shop', db)}>`,
    ]);
    machine.withDocker('exit 1');
    expect(machine.run(tagImages('shop', [web, db])).exitCode).toBe(1);
    expect(machine.run(tagImages('shop', [])).exitCode).toBe(0);
  });

  test('lets tags name these images again, and stops where docker refuses', () => {
    const tags = [
      { imageId: digest('a'), tag: 'web:1' },
      { imageId: digest('b'), tag: 'registry:5000/db:latest' },
    ];
    machine.withDocker('');
    expect(machine.run(setTags(tags)).exitCode).toBe(0);
    expect(machine.calls).toEqual([
      `<image><tag><${digest('a')}><web:1>`,
      `<image><tag><${digest('b')}><registry:5000/db:latest>`,
    ]);
    expect(machine.run(setTags([])).exitCode).toBe(0);
    machine.withDocker('exit 4');
    expect(machine.run(setTags(tags)).exitCode).toBe(4);
    expect(machine.calls).toHaveLength(3);
  });
});

test('knows its own tags', () => {
  expect(isTagged('shop', ['web:1', localTag('shop', `web:1@sha256:${'a'.repeat(64)}`)])).toBe(true);
  expect(isTagged('shop', ['web:1', localTag('shop2', `web:1@sha256:${'a'.repeat(64)}`)])).toBe(false);
});
