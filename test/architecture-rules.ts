/**
 * The rules of the house as pure functions over files (path to text), so that each can also be shown to fail.
 * Each returns its offenders, one sentence each.
 */
import { posix } from 'node:path';
import ts from 'typescript';

export type Files = ReadonlyMap<string, string>;

/**
 * The layers of shared/src. Each may import from itself and from those before it, and from nothing after it.
 * A new folder needs its place in this list.
 */
export const LAYERS = [
  'model',
  'json',
  'errors',
  'ports',
  'shell',
  'releases',
  'commands',
  'backups',
  'inputs',
  'probes',
  'tls',
  'compose',
  'images',
  'routers',
  'strategies',
  'server',
  'reporters',
  'guardian',
  'transaction',
  'engine',
  'vault',
  'adapters',
  'start',
  'start-backup',
  'start-certificates',
] as const;

type Layer = (typeof LAYERS)[number];

/** The effects know their ports and how to speak, and nothing of deploying. */
const ADAPTERS_IMPORT: readonly Layer[] = ['model', 'errors', 'ports', 'shell', 'adapters'];

/** A third-party package has one file. Where it has two, this says why. */
const SHARED_PACKAGES: Readonly<Record<string, readonly string[]>> = {
  // Its key parser is pure; the session needs the types of what node-ssh hands out.
  ssh2: ['shared/src/shell/private-key.ts', 'shared/src/adapters/ssh-session.ts'],
  // Two languages in YAML: Compose files, and our own health checks (with positions for messages).
  yaml: ['shared/src/compose/yaml.ts', 'shared/src/probes/check.ts'],
};

const isSource = (path: string): boolean => /^(shared|action-[a-z-]+)\/src\/.*\.ts$/.test(path);

function sources(files: Files): [path: string, text: string][] {
  return [...files].filter(([path]) => isSource(path));
}

interface Import {
  readonly from: string;
  readonly specifier: string;
  /** The path from the repository's root, without extension; undefined for packages. */
  readonly path: string | undefined;
}

function listImports(files: Files): Import[] {
  return sources(files).flatMap(([from, text]) =>
    ts.preProcessFile(text, true, true).importedFiles.map(({ fileName: specifier }) => {
      const path = specifier.startsWith('#shared/')
        ? `shared/src/${specifier.slice('#shared/'.length)}`
        : specifier.startsWith('.')
          ? posix.join(posix.dirname(from), specifier)
          : undefined;
      return { from, specifier, path: path?.replace(/\.ts$/, '') };
    }),
  );
}

function layerOf(path: string): string | undefined {
  return /^shared\/src\/([^/.]+)/.exec(path)?.[1];
}

function actionOf(path: string): string | undefined {
  return /^(action-[a-z-]+)\//.exec(path)?.[1];
}

/** Imports go one way. */
export function checkDirection(files: Files): string[] {
  const place = (layer: string): number => (LAYERS as readonly string[]).indexOf(layer);
  const offenders: string[] = [];
  for (const path of files.keys()) {
    const layer = isSource(path) ? layerOf(path) : undefined;
    if (layer !== undefined && place(layer) < 0) {
      offenders.push(`${path}: ${layer} is not in LAYERS of test/architecture-rules.ts; give it its place there`);
    }
  }
  for (const { from, path } of listImports(files)) {
    if (path === undefined) continue;
    const [layer, target] = [layerOf(from), layerOf(path)];
    if (layer !== undefined) {
      if (target === undefined) offenders.push(`${from} imports ${path}: shared code knows nothing outside shared/src`);
      else if (place(target) > place(layer)) {
        offenders.push(`${from} imports ${path}: ${target} comes after ${layer}`);
      } else if (layer === 'adapters' && !(ADAPTERS_IMPORT as readonly string[]).includes(target)) {
        offenders.push(`${from} imports ${path}: adapters import only ${ADAPTERS_IMPORT.join(', ')}`);
      }
    } else if (target === 'adapters') {
      offenders.push(`${from} imports ${path}: only shared/src/start.ts imports adapters`);
    } else if (/^start(-|$)/.test(target ?? '') && !from.endsWith('/src/main.ts')) {
      offenders.push(`${from} imports ${path}: only main.ts does`);
    } else if (target === undefined && actionOf(path) !== actionOf(from)) {
      offenders.push(`${from} imports ${path}: actions share code through shared/ only`);
    }
  }
  return offenders;
}

/** The third-party packages and the files that import them. */
export function listPackages(files: Files): ReadonlyMap<string, readonly string[]> {
  const packages = new Map<string, Set<string>>();
  for (const { from, specifier, path } of listImports(files)) {
    if (path !== undefined || specifier.startsWith('node:')) continue;
    const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
    packages.set(name, (packages.get(name) ?? new Set()).add(from));
  }
  return new Map([...packages].sort().map(([name, importers]) => [name, [...importers].sort()]));
}

/** Each third-party package is imported in one file, in shared/; builtins are called by their `node:` name. */
export function checkPackages(files: Files): string[] {
  const offenders: string[] = [];
  for (const [name, importers] of listPackages(files)) {
    const allowed = SHARED_PACKAGES[name];
    const extra = allowed ? importers.filter((path) => !allowed.includes(path)) : importers.slice(1);
    if (extra.length > 0) {
      offenders.push(
        `${name} is imported in ${importers.join(', ')}: keep it to ${allowed?.join(' and ') ?? 'one of them'}`,
      );
    }
    offenders.push(
      ...importers
        .filter((path) => actionOf(path) !== undefined)
        .map((path) => `${path} imports ${name}: only shared/ does`),
    );
  }
  return offenders;
}

function visit(text: string, path: string, see: (node: ts.Node, ancestors: readonly ts.Node[]) => void): void {
  const walk = (node: ts.Node, ancestors: readonly ts.Node[]): void => {
    see(node, ancestors);
    ts.forEachChild(node, (child) => {
      walk(child, [...ancestors, node]);
    });
  };
  walk(ts.createSourceFile(path, text, ts.ScriptTarget.Latest), []);
}

function lineOf(text: string, node: ts.Node): number {
  return text.slice(0, node.getFullStart()).split('\n').length;
}

/** Only inputs.ts (of an action, or of what they share) and shared/src/inputs read inputs; `run.ts` may hand them the reader. */
export function checkInputs(files: Files): string[] {
  const offenders: string[] = [];
  for (const [path, text] of sources(files)) {
    if (
      /^(action-[a-z-]+|shared)\/src\/(engine\/)?inputs\.ts$/.test(path) ||
      ['inputs', 'adapters'].includes(layerOf(path) ?? '')
    )
      continue;
    visit(text, path, (node, ancestors) => {
      if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return;
      const called = node.expression.name.text;
      if (called !== 'input' && called !== 'rawInput') return;
      const handed = ancestors.some(
        (one) => ts.isCallExpression(one) && ts.isIdentifier(one.expression) && one.expression.text === 'readInputs',
      );
      if (!handed) offenders.push(`${path}:${lineOf(text, node)} reads an input: only inputs.ts does`);
    });
  }
  return offenders;
}

/** Nothing but adapters and start.ts touches the environment. */
export function checkEnvironment(files: Files): string[] {
  const offenders: string[] = [];
  for (const [path, text] of sources(files)) {
    if (['adapters', 'start'].includes(layerOf(path) ?? '')) continue;
    visit(text, path, (node) => {
      const direct =
        ts.isPropertyAccessExpression(node) &&
        node.name.text === 'env' &&
        ts.isIdentifier(node.expression) &&
        node.expression.text === 'process';
      const imported = ts.isImportDeclaration(node) && /['"](node:)?process['"]/.test(text.slice(node.pos, node.end));
      if (direct || imported) {
        offenders.push(`${path}:${lineOf(text, node)} touches the environment: only adapters and start.ts do`);
      }
    });
  }
  return offenders;
}

/** A single quote as POSIX shells need it inside single quotes. */
const SHELL_QUOTES = ["'\\''", `'"'"'`];
const QUOTING_NAME = /^(shell(quote|escape)\w*|quote(word|shell|arg)\w*|escape(shell|arg)\w*|redact\w+|mask\w*)$/i;

/** Only shell/ quotes for the shell, and only shell/ redacts. `***` of Secret is the one other place. */
export function checkQuoting(files: Files): string[] {
  const offenders: string[] = [];
  for (const [path, text] of sources(files)) {
    if (layerOf(path) === 'shell') continue;
    visit(text, path, (node) => {
      const literal =
        ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node);
      if (literal && SHELL_QUOTES.some((quote) => node.text.trim() === quote)) {
        offenders.push(`${path}:${lineOf(text, node)} quotes for the shell: only shared/src/shell does`);
      }
      if (literal && /^\*{3,}$/.test(node.text) && path !== 'shared/src/model/secret.ts') {
        offenders.push(`${path}:${lineOf(text, node)} blanks something: only shared/src/shell does`);
      }
      if (ts.isFunctionDeclaration(node) && QUOTING_NAME.test(node.name?.text ?? '')) {
        offenders.push(
          `${path}:${lineOf(text, node)} declares ${node.name?.text ?? ''}: that belongs into shared/src/shell`,
        );
      }
      if (
        ts.isPropertyAccessExpression(node) &&
        node.name.text === 'join' &&
        ts.isPropertyAccessExpression(node.expression) &&
        node.expression.name.text === 'words'
      ) {
        offenders.push(`${path}:${lineOf(text, node)} joins a command's words: only shared/src/shell renders commands`);
      }
    });
  }
  return offenders;
}

const VAGUE = /(^|[-.])(util|utils|helper|helpers|manager|managers|misc|common)([-.]|$)/;

/** Names: kebab-case nouns that say something. Takes every path, not only sources. */
export function checkFileNames(paths: Iterable<string>): string[] {
  const offenders: string[] = [];
  for (const path of paths) {
    if (!/^(shared|action-[^/]+|test|scripts)\//.test(path) || !/\.(ts|mjs|js|sh)$/.test(path)) continue;
    for (const name of path.split('/')) {
      if (!/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+)*$/.test(name)) offenders.push(`${path}: ${name} is not kebab-case`);
      if (VAGUE.test(name)) offenders.push(`${path}: ${name} says nothing about what is in it`);
    }
  }
  return offenders;
}

/** main.ts hands run to start (or to a start with more ports, like startBackup), and does nothing else. */
export function checkMains(files: Files): string[] {
  const offenders: string[] = [];
  for (const [path, text] of files) {
    if (!/^action-[a-z-]+\/src\/main\.ts$/.test(path)) continue;
    const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest);
    const statements = source.statements.map((statement) =>
      text
        .slice(statement.pos, statement.end)
        .trim()
        .replace(/^\/\*\*.*?\*\/\s*/s, ''),
    );
    const expected = [
      /^import \{ start(Backup|Certificates)? \} from '#shared\/start(-backup|-certificates)?';$/,
      /^import \{ run \} from '\.\/run';$/,
      /^(void|await) start(Backup|Certificates)?\(run\);$/,
    ];
    if (
      statements.length !== expected.length ||
      !expected.every((pattern) => statements.some((one) => pattern.test(one)))
    ) {
      offenders.push(`${path} must import start and run, call \`void start(run);\`, and do nothing else`);
    }
  }
  return offenders;
}
