/**
 * Every message of a failure, with what to do, read from the sources: each place that makes one of the errors of shared/src/errors.ts or a finding
 * (a message and a hint), each verdict of a check and of a container, and what the program in the router says. What is known only when it happens
 * is `…`.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import ts from 'typescript';

const ERRORS = 'shared/src/errors.ts';

/** What a reader was doing: the beginning of a source's path, the longest that fits. */
const AREAS = {
  'Before anything is done': [
    ERRORS,
    'shared/src/inputs',
    'shared/src/compose',
    'shared/src/releases',
    'action-health-check/src',
  ],
  'The connection': ['shared/src/adapters', 'shared/src/shell', 'shared/src/start'],
  'The server': ['shared/src/server', 'shared/src/commands'],
  'Images and registries': ['shared/src/images', 'shared/src/engine/images', 'action-deploy/src/images'],
  'The Compose file, and how services are replaced': ['shared/src/strategies', 'shared/src/routers'],
  'A deploy': ['shared/src/transaction', 'shared/src/engine', 'shared/src/guardian', 'action-deploy/src'],
  'A rollback': ['action-rollback/src'],
  'Backups and restores': [
    'shared/src/vault',
    'shared/src/backups',
    'action-backup/src',
    'shared/src/adapters/object-store',
    'shared/src/adapters/age',
  ],
  Certificates: ['shared/src/tls', 'action-ssl/src', 'shared/src/adapters/certificates'],
  'Checks of addresses and containers': [
    'shared/src/probes',
    'shared/src/adapters/http-client',
    'shared/src/adapters/tls-inspection',
  ],
  GitHub: ['shared/src/reporters', 'shared/src/adapters/github', 'shared/src/adapters/actions-runner'],
};

const NOTES = {
  'Checks of addresses and containers':
    'The words are what was seen. Of an address: ask it yourself, from where the check asks. Of a container: its last log lines are in the log of the run.',
  GitHub: 'These are warnings: the record of a Deployment goes on beside the deploy, and cannot fail it.',
};

/** @typedef {{ area: string, file: string, kind: string, message: string, hint: string }} Row */

/**
 * @param {string} repository
 * @returns {Promise<{ classes: { name: string, file: string, code: string, meaning: string, rows: number }[], rows: Row[] }>}
 */
export async function readCatalogue(repository) {
  const files = await Promise.all((await sourcesOf(repository)).map((path) => parse(repository, path)));
  const classes = readClasses(files);
  const program = { files, calls: indexCalls(files), constants: indexConstants(files) };
  const rows = [];
  for (const file of files) {
    for (const site of sitesOf(file, classes)) {
      for (const scope of scopesOf(site, program)) {
        for (const message of messagesOf(site.message, { scope, file, program })) {
          const hint =
            site.hint === undefined
              ? ''
              : messagesOf(site.hint, { scope, file, program }).filter(isTelling).join(' Or: ');
          if (isTelling(message))
            rows.push({ area: areaOf(file.path), file: file.path, kind: site.kind, message, hint });
        }
      }
    }
  }
  rows.push(...(await readRouterWords(repository)));
  const unique = [...new Map(rows.map((row) => [`${row.area}\n${row.message}\n${row.hint}`, row])).values()];
  return {
    classes: classes.map(({ name, file, code, meaning }) => ({
      name,
      file,
      code,
      meaning,
      rows: unique.filter(({ kind }) => kind === name).length,
    })),
    rows: unique,
  };
}

/** As Markdown: the kinds, then a table for each area. @throws Error where a class has no row */
export function renderCatalogue({ classes, rows }) {
  const silent = classes.filter((one) => one.rows === 0).map(({ name }) => name);
  if (silent.length > 0)
    throw new Error(`no message is known of ${silent.join(', ')}: see scripts/error-catalogue.mjs`);
  // A class of its own for one place extends one of these, or has one row that says it all.
  const kinds = new Map(
    classes
      .filter(({ file }) => file === ERRORS)
      .map(({ code, meaning }) => [code, meaning])
      .reverse(),
  );
  const parts = [
    [
      '| kind | what it is |',
      '| --- | --- |',
      ...[...kinds].reverse().map(([code, meaning]) => `| \`${code}\` | ${cell(meaning)} |`),
    ],
  ];
  for (const area of Object.keys(AREAS)) {
    const own = mergeHints(rows.filter((row) => row.area === area)).sort((a, b) => (a.message < b.message ? -1 : 1));
    if (own.length === 0) continue;
    parts.push([
      `## ${area}\n`,
      ...(NOTES[area] === undefined ? [] : [`${NOTES[area]}\n`]),
      '| you see | kind | what to do |',
      '| --- | --- | --- |',
      ...own.map(({ message, kind, hint }) =>
        `| ${cell(message)} | ${classes.find(({ name }) => name === kind)?.code ?? kind} | ${isTelling(hint) ? cell(hint) : ''} |`.replace(
          '|  |',
          '| |',
        ),
      ),
    ]);
  }
  return parts.map((lines) => lines.join('\n')).join('\n\n');
}

/** One row for a message, with each thing that may be to do about it. */
function mergeHints(rows) {
  const merged = new Map();
  for (const row of rows) {
    const key = `${row.kind}\n${row.message}`;
    const before = merged.get(key)?.hint ?? '';
    const hint =
      before === '' || row.hint.startsWith(before) ? row.hint : row.hint === '' ? before : `${before} Or: ${row.hint}`;
    merged.set(key, { ...row, hint });
  }
  return [...merged.values()];
}

async function sourcesOf(repository) {
  const folders = (await readdir(repository)).filter((name) => name === 'shared' || name.startsWith('action-'));
  const paths = [];
  for (const folder of folders) {
    const source = join(repository, folder, 'src');
    for (const entry of await readdir(source, { recursive: true, withFileTypes: true }).catch(() => [])) {
      if (entry.isFile() && entry.name.endsWith('.ts')) paths.push(join(entry.parentPath, entry.name));
    }
  }
  return paths.map((path) => relative(repository, path).split(sep).join('/')).sort();
}

const ROUTER = 'shared/src/guardian/router.sh';

/** What the program in the router says when it gives up: all that it prints and does not write into a file. */
async function readRouterWords(repository) {
  const text = await readFile(join(repository, ROUTER), 'utf8').catch(() => '');
  const said = [...text.matchAll(/\becho "([^"]*)"(?! *>>)/g)].map(([, words = '']) =>
    words.replaceAll(/\$(?:\{[^}]*\}|\w+)/g, '…'),
  );
  return said.filter(isTelling).map((message) => {
    return { area: areaOf(ROUTER), file: ROUTER, kind: 'ReleaseError', message, hint: '' };
  });
}

async function parse(repository, path) {
  const text = await readFile(join(repository, path), 'utf8');
  return { path, root: ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true) };
}

function areaOf(path) {
  const fitting = Object.entries(AREAS).flatMap(([area, beginnings]) =>
    beginnings.filter((beginning) => path.startsWith(beginning)).map((beginning) => ({ area, beginning })),
  );
  const [best] = fitting.sort((a, b) => b.beginning.length - a.beginning.length);
  if (best === undefined) throw new Error(`${path} belongs to no area of scripts/error-catalogue.mjs`);
  return best.area;
}

function* walk(node) {
  yield node;
  for (const child of node.getChildren()) yield* walk(child);
}

// --- what there is ------------------------------------------------------------------------------------------------------

/** Every class that extends SlipwayError, in whatever file, with where its constructor has message and hint. */
function readClasses(files) {
  const found = new Map();
  const declared = files.flatMap(({ root }) => [...walk(root)].filter(ts.isClassDeclaration));
  const parentOf = (one) => one.heritageClauses?.[0]?.types[0]?.expression.getText();
  const add = (one) => {
    const name = one.name?.text ?? '';
    const parent = found.get(parentOf(one));
    const constructor = one.members.find(ts.isConstructorDeclaration);
    const code = one.members.find((member) => member.name?.getText() === 'code')?.initializer?.text;
    found.set(name, {
      name,
      file: one.getSourceFile().fileName,
      code: code ?? parent?.code,
      abstract: one.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.AbstractKeyword) ?? false,
      meaning: docOf(one),
      parameters: constructor?.parameters.map((parameter) => parameter.name.getText()) ?? parent?.parameters ?? [],
      supers: constructor === undefined ? [] : [...walk(constructor)].filter(isSuperCall),
      parameters_of_super: parent?.parameters ?? [],
    });
  };
  const base = declared.find((one) => one.name?.text === 'SlipwayError');
  if (base === undefined) throw new Error(`${ERRORS} has no SlipwayError`);
  add(base);
  for (let before = -1; before !== found.size;) {
    before = found.size;
    for (const one of declared) if (!found.has(one.name?.text) && found.has(parentOf(one))) add(one);
  }
  return [...found.values()].filter((one) => !one.abstract);
}

const isSuperCall = (node) => ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.SuperKeyword;

/** The first sentence of what stands above it. */
function docOf(node) {
  const text = ts.getJSDocCommentsAndTags(node)[0]?.comment ?? '';
  return (/^.*?[.](?=\s|$)/s.exec(String(text))?.[0] ?? String(text)).trim();
}

/** Every place that makes a message. */
function* sitesOf({ path, root }, classes) {
  for (const node of walk(root)) {
    if (ts.isNewExpression(node)) {
      const made = classes.find(({ name }) => name === node.expression.getText());
      if (made === undefined) continue;
      const at = (name) => node.arguments?.[made.parameters.indexOf(name)];
      if (at('message') !== undefined) yield { node, kind: made.name, message: at('message'), hint: at('hint') };
    } else if (isSuperCall(node)) {
      const name = enclosing(node, ts.isClassDeclaration)?.name?.text;
      const own = classes.find((one) => one.name === name);
      if (own === undefined) continue;
      const [message, hint] = ['message', 'hint'].map((word) => node.arguments[own.parameters_of_super.indexOf(word)]);
      if (message !== undefined) yield { node, kind: own.name, message, hint };
    } else if (ts.isObjectLiteralExpression(node)) {
      const value = (name) => {
        const property = node.properties.find((one) => one.name?.getText() === name);
        return (
          property?.initializer ?? (property && ts.isShorthandPropertyAssignment(property) ? property.name : undefined)
        );
      };
      // What ends a deploy is seen in containers first, and becomes an error later.
      if (path.includes('/transaction/') && value('service') !== undefined && value('reason') !== undefined)
        yield { node, kind: 'BadReleaseError', message: value('reason'), hint: undefined };
      if (path.includes('/images/') && node.properties.length === 1 && value('problem') !== undefined)
        yield { node, kind: 'ImageError', message: value('problem'), hint: undefined };
      if (value('message') === undefined || value('hint') === undefined) continue;
      yield {
        node,
        kind: path.includes('/tls/') ? 'RehearsalError' : path.endsWith('/github.ts') ? 'warning' : 'PreflightError',
        message: value('message'),
        hint: value('hint'),
      };
    } else if (path.includes('/probes/') && isVerdict(node)) {
      yield { node, kind: 'ProbeError', message: node.arguments?.[0] ?? node.expression, hint: undefined };
    }
  }
}

/** `failed('...')`, and what `findFault` returns of a container. */
function isVerdict(node) {
  if (ts.isCallExpression(node))
    return ['failed', 'fail'].includes(node.expression.getText()) && node.arguments.length > 0;
  return (
    ts.isReturnStatement(node) &&
    node.expression !== undefined &&
    enclosing(node, ts.isFunctionDeclaration)?.name?.text === 'findFault'
  );
}

function enclosing(node, is) {
  for (let at = node.parent; at !== undefined; at = at.parent) if (is(at)) return at;
  return undefined;
}

// --- what they say ------------------------------------------------------------------------------------------------------

const nameOf = (one) =>
  one.name?.getText() ?? (one.parent && ts.isVariableDeclaration(one.parent) ? one.parent.name.getText() : undefined);

function indexCalls(files) {
  const calls = new Map();
  for (const { path, root } of files) {
    for (const node of walk(root)) {
      if (!ts.isCallExpression(node) || !ts.isIdentifier(node.expression)) continue;
      const name = node.expression.text;
      calls.set(name, [...(calls.get(name) ?? []), { path, node }]);
    }
  }
  return calls;
}

/** Of the whole program by name, those of a file first. */
function indexConstants(files) {
  const constants = new Map();
  for (const { path, root } of files) {
    for (const node of walk(root)) {
      if (ts.isVariableDeclaration(node) && node.initializer !== undefined && node.parent.flags & ts.NodeFlags.Const) {
        const name = node.name.getText();
        constants.set(`${path} ${name}`, node.initializer);
        if (node.parent.parent.parent === root && !constants.has(name)) constants.set(name, node.initializer);
      }
    }
  }
  return constants;
}

/** Where message or hint are parameters of the function around: one scope for each of its calls. */
function scopesOf({ node, message, hint }, { calls }) {
  const around = enclosing(node, (one) => ts.isFunctionLike(one) && nameOf(one) !== undefined);
  const parameters = around?.parameters ?? [];
  const names = parameters.map((parameter) => parameter.name.getText());
  const used = [message, hint].flatMap((one) => (one === undefined ? [] : [...walk(one)].filter(ts.isIdentifier)));
  const isText = (name) => ['message', 'hint', 'what', 'why', 'reason'].includes(name);
  if (!used.some(({ text }) => names.includes(text) && isText(text))) return [new Map()];
  const local = (calls.get(nameOf(around)) ?? []).filter(
    (call) => call.path === node.getSourceFile().fileName && declarationOf(nameOf(around), call.node) === around,
  );
  return local.map(
    (call) =>
      new Map(
        names.flatMap((name, at) => {
          const argument = call.node.arguments[at] ?? parameters[at].initializer;
          return argument === undefined || !isText(name) ? [] : [[name, argument]];
        }),
      ),
  );
}

/** The function that a name means where it is called: two of one file may have the same, each in a function of its own. */
function declarationOf(name, call) {
  for (let scope = call.parent; scope !== undefined; scope = scope.parent) {
    for (const statement of scope.statements ?? []) {
      if (ts.isFunctionDeclaration(statement) && statement.name?.text === name) return statement;
      if (!ts.isVariableStatement(statement)) continue;
      const made = statement.declarationList.declarations.find((one) => one.name.getText() === name);
      if (made !== undefined) return made.initializer;
    }
  }
  return undefined;
}

/** Each text that the expression may be: those of a condition apart. Where its parts have all the words, those of each part apart, too. */
function messagesOf(expression, context) {
  const plain = strip(expression);
  if (ts.isConditionalExpression(plain)) {
    return [...messagesOf(plain.whenTrue, context), ...messagesOf(plain.whenFalse, context)];
  }
  const meant = ts.isIdentifier(plain) ? lookUp(plain, context) : undefined;
  if (meant !== undefined && meant !== plain && ts.isConditionalExpression(strip(meant)))
    return messagesOf(meant, context);
  const texts = textsOf(plain, context);
  return (texts.some(isTelling) ? texts : textsOf(plain, { ...context, isWide: true })).map((text) =>
    text.replaceAll(/…(?:[\s.,;:]*…)+/g, '…').trim(),
  );
}

const strip = (node) =>
  ts.isParenthesizedExpression(node) || ts.isAsExpression(node) || ts.isNonNullExpression(node)
    ? strip(node.expression)
    : node;

/** What a name stands for: an argument of the call that is looked at, the constant nearest around, one of the file, one of the program. */
function lookUp(node, { scope, file, program }) {
  const name = node.text;
  return (
    scope.get(name) ??
    constantAround(node) ??
    program.constants.get(`${file.path} ${name}`) ??
    program.constants.get(name)
  );
}

function constantAround(node) {
  for (let block = node.parent; block !== undefined; block = block.parent) {
    for (const statement of block.statements ?? []) {
      if (!ts.isVariableStatement(statement) || !(statement.declarationList.flags & ts.NodeFlags.Const)) continue;
      const made = statement.declarationList.declarations.find((one) => one.name.getText() === node.text);
      if (made !== undefined) return made.initializer;
    }
  }
  return undefined;
}

/** One, with `…` for what is known later; if it is to be wide, one for each way through conditions and small functions. */
function textsOf(expression, context, depth = 0) {
  const node = strip(expression);
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isTemplateExpression(node)) {
    return node.templateSpans.reduce(
      (texts, span) => joinEach(joinEach(texts, textsOf(span.expression, context, depth)), [span.literal.text]),
      [node.head.text],
    );
  }
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    return joinEach(textsOf(node.left, context, depth), textsOf(node.right, context, depth));
  }
  if (depth >= 5) return ['…'];
  if (ts.isIdentifier(node)) {
    const meant = lookUp(node, context);
    if (meant !== undefined && meant !== node) return textsOf(meant, context, depth + 1);
  }
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
    const object = lookUp(node.expression, context);
    const property =
      object && ts.isObjectLiteralExpression(strip(object))
        ? strip(object).properties.find((one) => one.name?.getText() === node.name.text)
        : undefined;
    if (property?.initializer !== undefined) return textsOf(property.initializer, context, depth + 1);
  }
  if (context.isWide === true && ts.isConditionalExpression(node)) {
    return [node.whenTrue, node.whenFalse].flatMap((branch) => textsOf(branch, context, depth + 1));
  }
  if (context.isWide === true && ts.isCallExpression(node) && ts.isIdentifier(node.expression)) {
    const made = declarationOf(node.expression.text, node);
    const [only, ...more] = made?.body?.statements ?? [];
    if (more.length === 0 && only !== undefined && ts.isReturnStatement(only) && only.expression !== undefined)
      return textsOf(only.expression, { ...context, scope: new Map() }, depth + 1);
  }
  return ['…'];
}

const joinEach = (before, after) => before.flatMap((one) => after.map((other) => one + other));

/** It has words of its own: two, and not only small ones. */
const isTelling = (text) => (text.match(/[A-Za-z]{2,}/g) ?? []).length >= 2 && /[A-Za-z]{3}/.test(text);

/** For a cell of a table. What is in backticks stays as it is, but for `|`, which would end the cell there, too. */
const cell = (text) =>
  text
    .replaceAll(/\s*\n\s*/g, ' ')
    .replaceAll('|', '\\|')
    .split(/(`[^`]*`)/)
    .map((part, at) =>
      at % 2 === 1 ? part : part.replaceAll('<', '&lt;').replaceAll(/(?<=^|[^\w])([*_])(?=\S)/g, '\\$1'),
    )
    .join('');
