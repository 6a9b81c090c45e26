import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { adoptCurrent, notePulling, storeRelease } from '../../src/commands/store';
import { layoutStore, type StoreLayout } from '../../src/releases/layout';
import { packTar } from '../../src/releases/tar';
import { HOSTILE, Machine, SHELLS } from '../shells';

const FIRST = '20261122T100000Z-aaaaaaa';
const SECOND = '20261122T110000Z-bbbbbbb';
const ADDRESS = 'f'.repeat(64);

function release(id: string, address = ADDRESS, text = 'server {}'): Promise<Uint8Array> {
  return packTar([
    { path: `releases/${id}/compose.yaml`, content: `# ${id}\n` },
    { path: `releases/${id}/env`, content: 'PASSWORD=secret\n' },
    { path: `releases/${id}/release.json`, content: JSON.stringify({ id }) },
    { path: `files/${address}/nginx/site.conf`, content: text, mode: 0o644 },
    { path: `files/${address}/nginx/bin/start.sh`, content: '#!/bin/sh', mode: 0o755 },
  ]);
}

const mode = (path: string): string => (lstatSync(path).mode & 0o777).toString(8);

describe.each(SHELLS)('the store, in $name', (shell) => {
  let machine: Machine;
  let layout: StoreLayout;

  beforeEach(() => {
    machine = new Machine(shell);
    layout = layoutStore(machine.path("apps/it's $(touch pwned) ☃"));
  });

  afterEach(() => {
    machine.remove();
  });

  const prepare = (): void => {
    mkdirSync(layout.releases, { recursive: true, mode: 0o700 });
    mkdirSync(layout.files, { mode: 0o700 });
    chmodSync(layout.store, 0o700);
  };

  const succeed = (command: Parameters<Machine['run']>[0], stdin?: string | Uint8Array): string => {
    const { exitCode, stdout, stderr } = machine.run(command, stdin === undefined ? {} : { stdin });
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return stdout;
  };

  const store = async (id: string, address?: string, text?: string): Promise<void> => {
    succeed(storeRelease(layout, id, await release(id, address, text)));
  };

  describe('storeRelease', () => {
    beforeEach(prepare);

    test('writes the release for its owner alone, and shipped files for the users of containers', async () => {
      await store(FIRST);
      expect(readFileSync(`${layout.releases}/${FIRST}/env`, 'utf8')).toBe('PASSWORD=secret\n');
      expect(mode(`${layout.releases}/${FIRST}`)).toBe('700');
      for (const file of ['compose.yaml', 'env', 'release.json'])
        expect(mode(`${layout.releases}/${FIRST}/${file}`)).toBe('600');
      expect(mode(`${layout.files}/${ADDRESS}`)).toBe('755');
      expect(mode(`${layout.files}/${ADDRESS}/nginx/site.conf`)).toBe('644');
      expect(mode(`${layout.files}/${ADDRESS}/nginx/bin/start.sh`)).toBe('755');
      expect(readdirSync(layout.store).sort()).toEqual(['files', 'releases']);
    });

    test('leaves files alone that are there: a container may have them mounted', async () => {
      await store(FIRST);
      const { ino } = lstatSync(`${layout.files}/${ADDRESS}/nginx/site.conf`);
      await store(SECOND);
      expect(lstatSync(`${layout.files}/${ADDRESS}/nginx/site.conf`).ino).toBe(ino);
    });

    test('does not touch a release that is there', async () => {
      await store(FIRST);
      const again = machine.run(storeRelease(layout, FIRST, await release(FIRST, 'e'.repeat(64))));
      expect(again).toMatchObject({ exitCode: 73, stderr: `release ${FIRST} is in the store already\n` });
      expect(readdirSync(`${layout.releases}/${FIRST}`).sort()).toEqual(['compose.yaml', 'env', 'release.json']);
    });

    test('leaves nothing of a release that arrived cut off, wherever the cut is', async () => {
      const tar = await release(FIRST);
      for (const length of [0, 100, 512, 1024, 2048, 3072, tar.length - 2048, tar.length - 512, tar.length - 1]) {
        const { exitCode } = machine.run(storeRelease(layout, FIRST, tar), { stdin: tar.subarray(0, length) });
        expect([length, exitCode]).toEqual([length, 74]);
        expect([
          readdirSync(layout.releases),
          readdirSync(layout.files),
          existsSync(`${layout.store}/incoming`),
        ]).toEqual([[], [], false]);
      }
    });

    test('clears away what a killed session left', async () => {
      mkdirSync(`${layout.store}/incoming/files/${ADDRESS}`, { recursive: true });
      await store(FIRST);
      expect(existsSync(`${layout.files}/${ADDRESS}/nginx/site.conf`)).toBe(true);
      expect(existsSync(`${layout.store}/incoming`)).toBe(false);
    });

    test('stops and leaves nothing when the connection hangs up', async () => {
      const tar = await release(FIRST);
      const process = machine.start(storeRelease(layout, FIRST, tar));
      process.stdin.on('error', () => undefined);
      process.stdin.write(tar.subarray(0, 512));
      for (let tries = 0; tries < 200 && !existsSync(`${layout.store}/incoming/tar`); tries++) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      process.kill('SIGHUP');
      process.stdin.end();
      await once(process, 'close');
      expect(readdirSync(layout.releases)).toEqual([]);
      expect(existsSync(`${layout.store}/incoming`)).toBe(false);
    });
  });

  test('adoptCurrent leaves the Compose file in the project folder as it is, and is not led astray by what was left', async () => {
    prepare();
    await store(FIRST);
    await store(SECOND);
    writeFileSync(`${layout.project}/compose.yaml`, 'services: {}\n');
    symlinkSync(`releases/${SECOND}`, `${layout.store}/.current.new`);
    succeed(adoptCurrent(layout, FIRST));
    succeed(adoptCurrent(layout, FIRST));
    expect(readlinkSync(layout.current)).toBe(`releases/${FIRST}`);
    expect(readFileSync(`${layout.project}/compose.yaml`, 'utf8')).toBe('services: {}\n');
    expect(readdirSync(`${layout.releases}/${SECOND}`).sort()).toEqual(['compose.yaml', 'env', 'release.json']);
  });

  test('notePulling adds one image a line, for the owner alone', () => {
    prepare();
    succeed(notePulling(layout, ['web:1@sha256:aa', "x'; touch pwned"]));
    succeed(notePulling(layout, ['-n', '%s\\n']));
    expect(readFileSync(`${layout.store}/pulling`, 'utf8')).toBe("web:1@sha256:aa\nx'; touch pwned\n-n\n%s\\n\n");
    expect(mode(`${layout.store}/pulling`)).toBe('600');
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });

  test('hostile values are words', () => {
    for (const text of HOSTILE) {
      machine.run(notePulling({ ...layout, store: `${layout.store}/${text}` }, [text]));
      machine.run(adoptCurrent({ ...layout, store: machine.path(text) }, text));
    }
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });
});
