/** `action.yml`, as far as a JavaScript action needs it. Where it has more, reading it fails. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { HarnessError } from './harness-error.ts';

export interface ActionInput {
  readonly name: string;
  readonly description: string;
  readonly required: boolean;
  readonly default: string | undefined;
  readonly deprecationMessage: string | undefined;
}

export interface ActionManifest {
  /** The folder of action.yml. */
  readonly folder: string;
  readonly name: string;
  readonly description: string;
  readonly inputs: readonly ActionInput[];
  readonly outputs: readonly { readonly name: string; readonly description: string }[];
  readonly main: string;
  readonly post: string | undefined;
  /** Default `always()`, as in the runner. */
  readonly postIf: string;
}

type Mapping = Readonly<Record<string, unknown>>;

const TOP_KEYS = ['name', 'description', 'author', 'branding', 'inputs', 'outputs', 'runs'];
const RUNS_KEYS = ['using', 'main', 'post', 'post-if'];
const INPUT_KEYS = ['description', 'required', 'default', 'deprecationMessage'];
const OUTPUT_KEYS = ['description'];

/** @throws HarnessError for what is missing, unknown, or not supported here. */
export async function readManifest(folder: string): Promise<ActionManifest> {
  const path = join(folder, 'action.yml');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch {
    throw new HarnessError(`there is no ${path}`);
  }
  const manifest = parseManifest(text, folder);
  for (const file of [manifest.main, manifest.post]) {
    if (file !== undefined && !existsSync(join(folder, file))) {
      throw new HarnessError(`${path} names ${file}, which is not there: run \`npm run build\``);
    }
  }
  return manifest;
}

/** @param folder only becomes part of the result and of messages */
export function parseManifest(text: string, folder: string): ActionManifest {
  const refuse = (what: string): never => {
    throw new HarnessError(`${join(folder, 'action.yml')}: ${what}`);
  };
  const mapping = (value: unknown, where: string, allowed?: readonly string[]): Mapping => {
    if (value === null || value === undefined) return {};
    if (typeof value !== 'object' || Array.isArray(value)) return refuse(`${where} is not a mapping`);
    for (const key of Object.keys(value)) {
      if (allowed && !allowed.includes(key)) refuse(`${where} has ${key}, which the harness does not support`);
    }
    return value as Mapping;
  };
  const scalar = (value: unknown, where: string): string | undefined => {
    if (value === undefined || value === null) return undefined;
    if (typeof value === 'object') return refuse(`${where} is not a text`);
    return typeof value === 'string' ? value : JSON.stringify(value);
  };

  const root = mapping(parse(text), 'the file', TOP_KEYS);
  const runs = mapping(root['runs'], 'runs', RUNS_KEYS);
  if (runs['using'] !== 'node24') refuse(`runs.using is ${String(runs['using'])}, and must be node24`);
  return {
    folder,
    name: scalar(root['name'], 'name') ?? refuse('name is missing'),
    description: scalar(root['description'], 'description') ?? refuse('description is missing'),
    inputs: Object.entries(mapping(root['inputs'], 'inputs')).map(([name, value]) => {
      const input = mapping(value, `inputs.${name}`, INPUT_KEYS);
      return {
        name,
        description: scalar(input['description'], `inputs.${name}.description`) ?? '',
        required: input['required'] === true,
        default: scalar(input['default'], `inputs.${name}.default`),
        deprecationMessage: scalar(input['deprecationMessage'], `inputs.${name}.deprecationMessage`),
      };
    }),
    outputs: Object.entries(mapping(root['outputs'], 'outputs')).map(([name, value]) => ({
      name,
      description: scalar(mapping(value, `outputs.${name}`, OUTPUT_KEYS)['description'], `outputs.${name}`) ?? '',
    })),
    main: scalar(runs['main'], 'runs.main') ?? refuse('runs.main is missing'),
    post: scalar(runs['post'], 'runs.post'),
    postIf: scalar(runs['post-if'], 'runs.post-if') ?? 'always()',
  };
}
