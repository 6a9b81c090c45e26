/**
 * Writes the tables of inputs and outputs in each action's README from its action.yml, and those of the reusable workflows in
 * infra/docs/WORKFLOWS.md from their files; and the messages of infra/docs/TROUBLESHOOTING.md from the sources: `node scripts/docs.mjs [--check]`.
 * With `--check` nothing is written, and the exit code is 1 where a table is not up to date.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parse } from 'yaml';
import { actions } from './actions.mjs';
import { readCatalogue, renderCatalogue } from './error-catalogue.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Text for one cell of a table: one line, and a `|` that does not end the cell. */
const cell = (text) =>
  String(text)
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ')
    .replaceAll('|', '\\|');

/** A value as code. Backticks in it need a longer fence. */
function code(value) {
  const text = cell(value);
  if (text === '') return '';
  const fence = '`'.repeat(1 + Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length)));
  return text.includes('`') ? `${fence} ${text} ${fence}` : `\`${text}\``;
}

/** @param {Record<string, { description?: string, required?: boolean, default?: unknown, deprecationMessage?: string }>} inputs */
export function renderInputs(inputs) {
  const rows = Object.entries(inputs ?? {}).map(([name, input]) => {
    const value = input?.required === true && input.default === undefined ? '**required**' : code(input?.default ?? '');
    const note = input?.deprecationMessage === undefined ? '' : ` **Deprecated:** ${cell(input.deprecationMessage)}`;
    return `| \`${name}\` | ${value} | ${cell(input?.description ?? '')}${note} |`;
  });
  return rows.length === 0 ? 'None.' : ['| Input | Default | Description |', '| --- | --- | --- |', ...rows].join('\n');
}

/** @param {Record<string, { description?: string }>} outputs */
export function renderOutputs(outputs) {
  const rows = Object.entries(outputs ?? {}).map(
    ([name, output]) => `| \`${name}\` | ${cell(output?.description ?? '')} |`,
  );
  return rows.length === 0 ? 'None.' : ['| Output | Description |', '| --- | --- |', ...rows].join('\n');
}

/**
 * The README with its tables renewed.
 *
 * @throws Error when a pair of markers is missing
 */
export function renewTables(readme, manifestText, label) {
  const manifest = parse(manifestText);
  return renew(readme, { inputs: renderInputs(manifest.inputs), outputs: renderOutputs(manifest.outputs) }, label);
}

/** @throws Error when a pair of markers is missing */
function renew(document, tables, label) {
  let text = document;
  for (const [name, table] of Object.entries(tables)) {
    const [start, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
    const from = text.indexOf(start);
    const to = text.indexOf(end, from);
    if (from < 0 || to < 0) throw new Error(`${label} lacks the markers ${start} and ${end}`);
    text = `${text.slice(0, from + start.length)}\n\n${table}\n\n${text.slice(to)}`;
  }
  return text;
}

/** What a caller gives and gets: inputs, secrets, outputs, and the permissions of all jobs together, which GitHub asks of it. */
export function renderWorkflow(text) {
  const { on, jobs } = parse(text);
  const call = on.workflow_call;
  const secrets = Object.entries(call.secrets ?? {}).map(
    ([name, { description, required }]) => `| \`${name}\` | ${required ? '**required**' : ''} | ${cell(description)} |`,
  );
  const permissions = {};
  for (const job of Object.values(jobs)) {
    for (const [name, level] of Object.entries(job.permissions ?? {})) {
      if (permissions[name] !== 'write') permissions[name] = level;
    }
  }
  const needs = Object.entries(permissions).map(([name, level]) => `${name}: ${level}`);
  return [
    `Permissions: \`{ ${needs.join(', ')} }\``,
    renderInputs(call.inputs),
    ...(secrets.length === 0 ? [] : [['| Secret | | Description |', '| --- | --- | --- |', ...secrets].join('\n')]),
    renderOutputs(call.outputs),
  ].join('\n\n');
}

/** The first line that differs, as a diff would show it. */
function hint(before, after) {
  const [old, fresh] = [before.split('\n'), after.split('\n')];
  const at = fresh.findIndex((line, index) => line !== old[index]);
  const index = at < 0 ? fresh.length : at;
  return `  line ${index + 1}\n  - ${old[index] ?? '(end of file)'}\n  + ${fresh[index] ?? '(end of file)'}`;
}

/** @returns {Promise<string[]>} what is out of date or missing, with a hint each; nothing after writing */
export async function renewReadmes({ check, repository = root, registry = actions }) {
  const problems = [];
  for (const action of registry) {
    const path = join(repository, action, 'README.md');
    try {
      const [readme, manifest] = [
        await readFile(path, 'utf8'),
        await readFile(join(repository, action, 'action.yml'), 'utf8'),
      ];
      const renewed = renewTables(readme, manifest, `${action}/README.md`);
      if (renewed === readme) continue;
      if (check)
        problems.push(
          `${action}/README.md is not up to date with action.yml: run \`npm run docs\`\n${hint(readme, renewed)}`,
        );
      else await writeFile(path, renewed);
    } catch (error) {
      if (error.code === 'ENOENT') problems.push(`${action}: there is no ${relative(repository, error.path)}`);
      else problems.push(error.message);
    }
  }
  problems.push(...(await renewWorkflows({ check, repository })));
  if (existsSync(join(repository, 'shared/src/errors.ts'))) {
    const messages = renderCatalogue(await readCatalogue(repository));
    problems.push(...(await renewDocument({ check, repository, document: TROUBLESHOOTING, tables: { messages } })));
  }
  return problems;
}

const WORKFLOWS = 'infra/docs/WORKFLOWS.md';

/** Those that others call; what begins with a dot is this repository's own. */
async function renewWorkflows({ check, repository }) {
  const folder = join(repository, '.github', 'workflows');
  const names = (await readdir(folder).catch(() => [])).filter((name) => /^[^.].*\.yml$/.test(name));
  if (names.length === 0) return [];
  const tables = {};
  for (const name of names) tables[name] = renderWorkflow(await readFile(join(folder, name), 'utf8'));
  return renewDocument({ check, repository, document: WORKFLOWS, tables });
}

const TROUBLESHOOTING = 'infra/docs/TROUBLESHOOTING.md';

async function renewDocument({ check, repository, document, tables }) {
  try {
    const path = join(repository, document);
    const text = await readFile(path, 'utf8');
    const renewed = renew(text, tables, document);
    if (renewed === text) return [];
    if (check) return [`${document} is not up to date: run \`npm run docs\`\n${hint(text, renewed)}`];
    await writeFile(path, renewed);
    return [];
  } catch (error) {
    return [error.code === 'ENOENT' ? `there is no ${relative(repository, error.path)}` : error.message];
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
  const problems = await renewReadmes({ check: values.check });
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exitCode = 1;
}
