/** What GitHub's language service sees around a workflow file of ours: our own actions, and those of others by their pins. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { Surroundings } from '../e2e/harness/github-language.ts';
import { SUITE } from './rules.ts';
import { OWN_THIRD_PARTY, THIRD_PARTY } from './third-party.ts';

/** @param root of this repository */
export function surroundingsOf(root: string): Surroundings {
  return {
    actionsMetadataProvider: {
      async fetchActionMetadata({ owner, name, ref, path }) {
        if (`${owner}/${name}` === SUITE && path !== undefined) {
          const file = join(root, path, 'action.yml');
          return existsSync(file) ? (parse(await readFile(file, 'utf8')) as unknown) : undefined;
        }
        const action = [owner, name, ...(path === undefined ? [] : [path])].join('/');
        const known = { ...THIRD_PARTY, ...OWN_THIRD_PARTY }[`${action}@${ref}`];
        if (known === undefined) return undefined;
        const described = (names: readonly string[]) =>
          Object.fromEntries(names.map((one) => [one, { description: one }]));
        return { name, description: name, inputs: described(known.inputs), outputs: described(known.outputs) };
      },
    },
    fileProvider: {
      async getFileContent({ owner, repository, path }) {
        if (owner !== undefined && `${owner}/${repository ?? ''}` !== SUITE)
          throw new Error(`there is no ${owner}/${repository ?? ''}`);
        return { name: path, content: await readFile(join(root, path), 'utf8') };
      },
    },
  };
}
