/**
 * The whole kill matrix: a deploy (or a rollback) is killed at every point of it, in every way, and what serves then and whether the next
 * deploy goes well is looked at. Needs root and Linux (infra/sandbox). Hours, all of it; on a sandbox of its own:
 *
 * `SLIPWAY_SANDBOX=matrix node_modules/.bin/node scripts/kill-matrix.mjs [--task rollback]
 * [--only start-first|stop-first] [--kill reboot]...
 * [--point REGEX] [--seed N] [--sample N] [--shard 0/2] [--minutes N] [--list] [--log FILE] [--passed FILE]... [--action FOLDER]`
 *
 * `--point` matches lines of `--list`, such as `do 13 during docker stop`. `--minutes` ends it early.
 * `--log` adds a line of JSON for each cell; those that passed there are left out with `--passed`.
 *
 * Exit code 1: some cell failed; 2: it could not start. `--shard` is for several sandboxes side by side.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

process.env.SLIPWAY_SANDBOX ??= 'matrix';

const { values } = parseArgs({
  options: {
    task: { type: 'string' },
    only: { type: 'string', multiple: true },
    kill: { type: 'string', multiple: true },
    point: { type: 'string' },
    seed: { type: 'string' },
    sample: { type: 'string' },
    shard: { type: 'string' },
    minutes: { type: 'string' },
    list: { type: 'boolean', default: false },
    log: { type: 'string' },
    passed: { type: 'string', multiple: true },
    action: { type: 'string' },
  },
});

const { runMatrix, renderTable, describeCell, KILLS, VARIANTS } = await import('../test/e2e/kill-matrix/matrix.ts');

function fail(message) {
  process.stderr.write(`kill-matrix: ${message}\n`);
  process.exit(2);
}
if (!['deploy', 'rollback'].includes(values.task ?? 'deploy'))
  fail(`--task ${values.task} is neither deploy nor rollback`);
for (const kill of values.kill ?? []) {
  if (!(kill in KILLS)) fail(`--kill ${kill} is not one of: ${Object.keys(KILLS).join(', ')}`);
}
for (const variant of values.only ?? []) {
  if (!VARIANTS.includes(variant)) fail(`--only ${variant} is not one of: ${VARIANTS.join(', ')}`);
}
const [index, of] = (values.shard ?? '0/1').split('/').map(Number);
if (!(index >= 0 && index < of)) fail(`--shard ${values.shard} is not like 0/2 or 1/2`);
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e6));

const passed = new Set(
  (values.passed ?? [])
    .filter((file) => existsSync(file))
    .flatMap((file) => readFileSync(file, 'utf8').split('\n').slice(0, -1))
    .map((line) => JSON.parse(line))
    .filter(({ problems }) => problems.length === 0)
    .map(({ describe }) => describe),
);

const started = performance.now();
const print = (text) => process.stdout.write(`${text}\n`);
const took = () => `${((performance.now() - started) / 60_000).toFixed(1)} min`;
print(`seed ${seed}`);
let count = 0;
const { points, cells, results, chosen } = await runMatrix({
  seed,
  ...(values.task && { task: values.task }),
  ...(values.only && { variants: values.only }),
  ...(values.kill && { kills: values.kill }),
  ...(values.point && { point: new RegExp(values.point) }),
  ...(values.list ? { sample: 0 } : values.sample && { sample: Number(values.sample) }),
  ...(of > 1 && { shard: { index, of } }),
  passed,
  ...(values.minutes && { limitSeconds: Number(values.minutes) * 60 }),
  ...(values.action && { action: values.action }),
  onPoints: (variant, list, chosen) => {
    print(`\n${variant}: ${list.length} points, ${chosen} cells to run`);
    if (values.list) for (const { phase, at, when, label } of list) print(`  ${phase} ${at} ${when} ${label}`);
  },
  onResult: (result) => {
    const { cell, problems, remarks, seconds, log } = result;
    count++;
    const verdict = problems.length === 0 ? 'ok    ' : 'FAILED';
    print(`${String(count).padStart(4)} ${verdict} ${seconds.toFixed(1).padStart(5)} s  ${describeCell(cell)}`);
    for (const problem of problems) print(`       - ${problem}`);
    for (const remark of remarks) print(`       (${remark})`);
    if (values.log) appendFileSync(values.log, `${JSON.stringify({ ...result, describe: describeCell(cell) })}\n`);
    else if (log !== '') print(log.replaceAll(/^/gm, '       | '));
  },
});
const failed = results.filter(({ problems }) => problems.length > 0);
const remarked = results.filter(({ remarks }) => remarks.length > 0);
print(`\n${renderTable(results)}\n`);
print(
  `${Object.entries(points)
    .map(([variant, number]) => `${variant}: ${number} points`)
    .join(', ')}; ${cells} cells in all`,
);
print(
  `${results.length} of ${chosen} chosen cells run in ${took()}: ${results.length - failed.length} passed, ${failed.length} failed, ${remarked.length} with remarks; seed ${seed}`,
);
process.exit(failed.length > 0 || (results.length === 0 && !values.list) ? 1 : 0);
