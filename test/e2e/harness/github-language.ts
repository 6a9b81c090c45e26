/**
 * GitHub's own parser and language service for workflows and actions. Bundled before use: a plain import of these
 * packages fails on a JSON import without an attribute.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));

const ENTRY = `
export { validate } from '@actions/languageservice';
export { TextDocument } from 'vscode-languageserver-textdocument';
export { convertWorkflowTemplate, NoOperationTraceWriter, parseWorkflow } from '@actions/workflow-parser';
`;

export interface Finding {
  /** 1-based. */
  readonly line: number;
  readonly severity: 'error' | 'warning';
  readonly message: string;
}

interface Language {
  readonly TextDocument: {
    readonly create: (uri: string, language: string, version: number, text: string) => unknown;
  };
  readonly validate: (document: unknown) => Promise<
    readonly {
      readonly message: string;
      readonly severity?: number;
      readonly range: { readonly start: { readonly line: number } };
    }[]
  >;
}

let loaded: Promise<Language> | undefined;
let documents = 0;

/** What GitHub's editor says of a file; `name` decides what it is: `action.yml`, or a path below `.github/workflows/`. */
export async function validateFile(name: string, text: string): Promise<Finding[]> {
  loaded ??= loadLanguage();
  const { validate, TextDocument } = await loaded;
  // The service remembers what it parsed by URI, whatever the text: each document needs one of its own.
  documents += 1;
  const diagnostics = await validate(TextDocument.create(`file:///${documents}/${name}`, 'yaml', 1, text));
  return diagnostics.map(({ message, severity, range }) => ({
    line: range.start.line + 1,
    severity: severity === 1 || severity === undefined ? 'error' : 'warning',
    message,
  }));
}

async function loadLanguage(): Promise<Language> {
  const manifest = JSON.parse(
    await readFile(join(REPOSITORY, 'node_modules/@actions/languageservice/package.json'), 'utf8'),
  ) as { version: string };
  const folder = join(REPOSITORY, '.build', 'github-language');
  const bundle = join(folder, `${manifest.version}.cjs`);
  if (!existsSync(bundle)) {
    await mkdir(folder, { recursive: true });
    // The process id: tests that run at the same time must not read half a file of each other.
    const [entry, fresh] = [join(folder, `entry-${process.pid}.mjs`), join(folder, `fresh-${process.pid}.cjs`)];
    await writeFile(entry, ENTRY);
    await promisify(execFile)(join(REPOSITORY, 'node_modules/.bin/esbuild'), [
      entry,
      '--bundle',
      '--platform=node',
      '--format=cjs',
      `--outfile=${fresh}`,
      '--log-level=error',
    ]);
    await rename(fresh, bundle);
    await rm(entry);
  }
  return createRequire(import.meta.url)(bundle) as Language;
}
