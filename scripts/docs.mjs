/**
 * Writes the tables of inputs and outputs in each action's README from its action.yml: `node scripts/docs.mjs [--check]`.
 * With `--check` nothing is written, and the exit code is 1 where a table is not up to date.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parse } from 'yaml';
import { actions } from './actions.mjs';

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
  const tables = { inputs: renderInputs(manifest.inputs), outputs: renderOutputs(manifest.outputs) };
  let text = readme;
  for (const [name, table] of Object.entries(tables)) {
    const [start, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
    const from = text.indexOf(start);
    const to = text.indexOf(end, from);
    if (from < 0 || to < 0) throw new Error(`${label} lacks the markers ${start} and ${end}`);
    text = `${text.slice(0, from + start.length)}\n\n${table}\n\n${text.slice(to)}`;
  }
  return text;
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
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
  const problems = await renewReadmes({ check: values.check });
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exitCode = 1;
}
