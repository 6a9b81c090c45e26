/**
 * GitHub's own parser and language service for workflows and actions. Bundled before use: a plain import of these
 * packages fails on a JSON import without an attribute.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
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
export * from '@actions/workflow-parser';
export { ensureStatusFunction } from '@actions/workflow-parser/model/converter/if-condition';
`;

export interface Finding {
  /** 1-based. */
  readonly line: number;
  readonly severity: 'error' | 'warning';
  readonly message: string;
}

/** What the service asks the world around the file for; see `ValidationConfig` of @actions/languageservice. */
export interface Surroundings {
  readonly actionsMetadataProvider?: {
    fetchActionMetadata(action: {
      readonly owner: string;
      readonly name: string;
      readonly ref: string;
      readonly path?: string;
    }): Promise<unknown>;
  };
  /** Files of the repository itself, and reusable workflows of others. */
  readonly fileProvider?: {
    getFileContent(file: {
      readonly owner?: string;
      readonly repository?: string;
      readonly path: string;
      readonly version?: string;
    }): Promise<{ readonly name: string; readonly content: string }>;
  };
}

/** A node of the parser's tree. */
export interface Token {
  readonly templateTokenType: number;
  readonly definitionInfo?: unknown;
  readonly range?: { readonly start: { readonly line: number } };
}

export interface Language {
  readonly TextDocument: {
    readonly create: (uri: string, language: string, version: number, text: string) => unknown;
  };
  readonly validate: (
    document: unknown,
    surroundings?: Surroundings,
  ) => Promise<
    readonly {
      readonly message: string;
      readonly severity?: number;
      readonly range: { readonly start: { readonly line: number } };
    }[]
  >;
  readonly parseWorkflow: (
    file: { readonly name: string; readonly content: string },
    trace: unknown,
  ) => {
    readonly value?: Token;
    readonly context: { readonly errors: { getErrors(): readonly { readonly message: string }[] } };
  };
  readonly NoOperationTraceWriter: new () => unknown;
  readonly isString: (token: Token) => token is Token & { readonly value: string };
  readonly isBoolean: (token: Token) => token is Token & { readonly value: boolean };
  readonly isNumber: (token: Token) => token is Token & { readonly value: number };
  readonly isLiteral: (token: Token) => boolean;
  readonly isBasicExpression: (token: Token) => token is Token & { readonly expression: string };
  readonly isSequence: (token: Token) => token is Token & Iterable<Token>;
  readonly isMapping: (
    token: Token,
  ) => token is Token & Iterable<{ readonly key: Token & { readonly value: string }; readonly value: Token }>;
  /** `success() && (...)` around a condition that has no status function. */
  readonly ensureStatusFunction: (condition: string, definition: unknown) => string;
}

let loaded: Promise<Language> | undefined;
let documents = 0;

/** GitHub's parser and language service, bundled at the first call. */
export async function githubLanguage(): Promise<Language> {
  loaded ??= loadLanguage();
  return loaded;
}

/** What GitHub's editor says of a file; `name` decides what it is: `action.yml`, or a path below `.github/workflows/`. */
export async function validateFile(name: string, text: string, surroundings?: Surroundings): Promise<Finding[]> {
  const { validate, TextDocument } = await githubLanguage();
  // The service remembers what it parsed by URI, whatever the text: each document needs one of its own.
  documents += 1;
  const diagnostics = await validate(
    TextDocument.create(`file:///${documents}/${name}`, 'yaml', 1, text),
    surroundings,
  );
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
  const bundle = join(
    folder,
    `${manifest.version}-${createHash('sha256').update(ENTRY).digest('hex').slice(0, 8)}.cjs`,
  );
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
