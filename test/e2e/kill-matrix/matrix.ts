/** The kill matrix: every point of a deploy or a rollback times every death, on the two ways to replace a service. */
import { setTimeout as sleep } from 'node:timers/promises';
import { freshServer, removeCheckouts, startSandbox } from '../sandbox.ts';
import {
  type Bench,
  type Cell,
  type CellResult,
  describeCell,
  findKept,
  isPossible,
  type Kill,
  KILLS,
  runCell,
} from './cell.ts';
import { listPoints, type Point, type Seen } from './points.ts';
import type { ActionRun } from '../harness/index.ts';
import {
  makeCheckout,
  publishReleases,
  runDeploy,
  runRollback,
  type Task,
  type Variant,
  waitForWhole,
} from './project.ts';
import { arm, disarm, installShims, isSettled, listSeen, readTraces } from './server.ts';

export const VARIANTS: readonly Variant[] = ['start-first', 'stop-first'];

export interface MatrixOptions {
  readonly seed: number;
  /** Default `deploy`. */
  readonly task?: Task;
  readonly variants?: readonly Variant[];
  readonly kills?: readonly Kill[];
  /** Only points whose `phase at when label` it matches. */
  readonly point?: RegExp;
  /** So many cells, drawn by the seed; all of them where it is left out. */
  readonly sample?: number;
  /** The cells whose number, divided by `of`, leaves `index`: for several sandboxes side by side. */
  readonly shard?: { readonly index: number; readonly of: number };
  /** Cells, as `describeCell` names them, that need not be run again. */
  readonly passed?: ReadonlySet<string>;
  /** Ends before a cell that would begin later than this. */
  readonly limitSeconds?: number;
  /** Folder of the action; default the repository's own. */
  readonly action?: string;
  readonly onPoints?: (variant: Variant, points: readonly Point[], cells: number) => void;
  readonly onResult?: (result: CellResult) => void;
}

export interface MatrixResult {
  /** By variant. */
  readonly points: Readonly<Partial<Record<Variant, number>>>;
  /** How many cells there are in all, and how many of them were to be run. */
  readonly cells: number;
  readonly chosen: number;
  readonly results: readonly CellResult[];
}

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
export function drawNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const FAILING = { 'e2e-command': 'runner: exit 1' };

/** A new server that runs the project with two kept releases, and what a deploy or a rollback there does. */
async function prepareBench(task: Task, variant: Variant, action: string): Promise<{ bench: Bench; points: Point[] }> {
  await freshServer();
  await installShims();
  const checkout = await makeCheckout();
  const settle = async (what: string, run: ActionRun, wanted: string): Promise<void> => {
    if (run.outcome !== wanted) throw new Error(`${what}: ${run.outcome}\n${run.log}`);
    while (!(await isSettled())) await sleep(200);
  };
  const deploy = async (tag: string): Promise<void> => {
    await settle(`deploy of ${tag}`, await runDeploy({ checkout, variant, tag, action }), 'success');
  };
  const attempt = async (tag: string, wanted: 'success' | 'failure'): Promise<Seen[]> => {
    const inputs = wanted === 'success' ? {} : FAILING;
    await arm();
    const run =
      task === 'deploy'
        ? await runDeploy({ checkout, variant, tag, action }, inputs)
        : await runRollback(checkout, await findKept(), inputs);
    await settle(`${task}, ${tag}`, run, wanted);
    return listSeen();
  };
  for (const tag of ['r1', 'r2', 'r3']) await deploy(tag);
  const good = await attempt('r4', 'success');
  if (task === 'rollback') await deploy('r4');
  const bad = await attempt('r5', 'failure');
  await disarm();
  await sleep(1000);
  const found = await waitForWhole(variant, 5);
  if (!('tag' in found) || found.tag !== 'r4') throw new Error(`nothing dies, and yet: ${JSON.stringify(found)}`);
  const traces = await readTraces();
  return { bench: { checkout, variant, action, tag: 'r4', traces }, points: listPoints(good, bad) };
}

export async function runMatrix(options: MatrixOptions): Promise<MatrixResult> {
  const { variants = VARIANTS, kills = Object.keys(KILLS) as Kill[], seed, shard, sample } = options;
  const { task = 'deploy', action = 'action-deploy' } = options;
  const startedMs = performance.now();
  await startSandbox();
  await publishReleases();
  const counts: Partial<Record<Variant, number>> = {};
  const results: CellResult[] = [];
  let cells = 0;
  let chosenCells = 0;
  // A small sample does not reach every kill: it begins with another one each time.
  const firstKill = Math.floor(drawNumbers(seed)() * kills.length);
  try {
    for (const [number, variant] of variants.entries()) {
      const prepared = await prepareBench(task, variant, action);
      const { points } = prepared;
      let { bench } = prepared;
      counts[variant] = points.length;
      const draw = drawNumbers(seed + number);
      const all = points
        .filter((point) => (options.point ?? /(?:)/).test(`${point.phase} ${point.at} ${point.when} ${point.label}`))
        .flatMap((point) => kills.map((kill): Cell => ({ task, variant, point, kill, chance: draw() })))
        .filter(isPossible)
        .map((cell) => ({ cell, place: draw() }))
        .sort((one, other) => one.place - other.place)
        .map(({ cell }) => cell);
      cells += all.length;
      const share = sample === undefined ? all.length : Math.ceil((sample - chosenCells) / (variants.length - number));
      const chosen = (sample === undefined ? all : spread(all, kills, firstKill + chosenCells, share))
        .filter((_, index) => shard === undefined || index % shard.of === shard.index)
        .filter((cell) => options.passed?.has(describeCell(cell)) !== true);
      chosenCells += chosen.length;
      options.onPoints?.(variant, points, chosen.length);
      for (const cell of chosen) {
        if (options.limitSeconds !== undefined && performance.now() - startedMs > options.limitSeconds * 1000) break;
        const result = await runCell(cell, bench);
        results.push(result);
        options.onResult?.(result);
        // What one cell has left must not count against the next.
        if (!result.inOrder) ({ bench } = await prepareBench(task, variant, action));
      }
    }
  } finally {
    await removeCheckouts();
  }
  return { points: counts, cells, chosen: chosenCells, results };
}

/** So many cells with each kill about as often; the first of them is the `from`-th kill. */
function spread(cells: readonly Cell[], kills: readonly Kill[], from: number, count: number): Cell[] {
  const rows = kills.map((_, index) => cells.filter((cell) => cell.kill === kills[(index + from) % kills.length]));
  const turns = Math.max(0, ...rows.map((row) => row.length));
  return Array.from({ length: turns }, (_, turn) => rows.flatMap((row) => row.slice(turn, turn + 1)))
    .flat()
    .slice(0, count);
}

/** A table: kills down, phases across; passed of all. */
export function renderTable(results: readonly CellResult[]): string {
  const phases = ['do', 'commit', 'finish', 'undo'] as const;
  const lines = [
    `${'kill'.padEnd(14)}${VARIANTS.flatMap((variant) => phases.map((phase) => `${variant === 'start-first' ? 'start' : 'stop'}:${phase}`.padStart(14))).join('')}`,
  ];
  for (const kill of Object.keys(KILLS) as Kill[]) {
    const row = VARIANTS.flatMap((variant) =>
      phases.map((phase) => {
        const own = results.filter(
          ({ cell }) => cell.kill === kill && cell.variant === variant && cell.point.phase === phase,
        );
        const passed = own.filter(({ problems }) => problems.length === 0).length;
        return (own.length === 0 ? '-' : `${passed}/${own.length}`).padStart(14);
      }),
    );
    lines.push(`${kill.padEnd(14)}${row.join('')}`);
  }
  return lines.join('\n');
}

export { describeCell, KILLS, type CellResult, type Kill };
