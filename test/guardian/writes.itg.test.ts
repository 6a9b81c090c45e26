/**
 * A death at every write of a transaction to the store, and a power cut there: whoever comes next finds everything old or
 * everything new. The programs that write (mv, ln, rm, cat, sync, mkdir) have stand-ins that count, and strike.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { jest } from '@jest/globals';
import { Home, journal, makeFile, Session, type Shell, SHELLS, storeRelease, until } from './session';

jest.setTimeout(180_000);

const AT_ONCE = 3;
const WRITERS = ['mv', 'ln', 'rm', 'cat', 'sync', 'mkdir'];
const OLD = { current: 'releases/r1', releases: ['r1'], files: ['old-1'] };
const NEW = { current: 'releases/r2', releases: ['r1', 'r2'], files: ['new-1'] };

/**
 * `power cut`: nothing of the session is left, and the write was not made. `after`: the main loop alone is killed after it.
 * `late`: the main loop is killed, its heir has done its work, and then the write is made.
 */
const DEATHS = ['power cut', 'after', 'late'] as const;
type Death = (typeof DEATHS)[number];

const STAND_IN = `#!/bin/sh
name=\${0##*/}
PATH=\${PATH#*:}
case "$*" in
  *.slipway* | *run/slipway.*/journal) ;;
  *) exec "$name" "$@" ;;
esac
[ -e "$HOME/armed" ] || exec "$name" "$@"
echo "$name $*" >>"$HOME/writes"
read -r at main death <"$HOME/armed"
[ "$(wc -l <"$HOME/writes")" -eq "$at" ] || exec "$name" "$@"
rm -f "$HOME/armed"
case $death in
  'power cut')
    read -r _ _ _ _ group _ </proc/self/stat
    kill -KILL "-$main" "-$group"
    ;;
  after)
    "$name" "$@"
    kill -KILL "$main"
    ;;
  late)
    kill -KILL "$main"
    patience=300 session=
    until { read -r session && [ -z "$session" ]; } <"$HOME/shop/.slipway/session" || [ "$patience" = 0 ]; do
      sleep 0.05
      patience=$((patience - 1))
    done
    exec "$name" "$@"
    ;;
esac
`;

type Way = 'commit' | 'undo';

async function play(shell: Shell, way: Way, at: number, death: Death): Promise<string[]> {
  const home = new Home().deployed().file('old-1');
  const writes = (): string[] =>
    existsSync(home.path('writes')) ? readFileSync(home.path('writes'), 'utf8').trimEnd().split('\n') : [];
  let session: Session | undefined;
  try {
    writeFileSync(home.path('shop', 'compose.yaml'), 'mine: true\n');
    for (const name of WRITERS) home.install(name, STAND_IN);
    session = new Session(home, shell, { leaseTicks: 1000, standIns: WRITERS });
    await session.hear('locked');
    writeFileSync(home.path('armed'), `${at} ${session.pid} ${death}\n`);
    session.begin(journal());
    session.send('do', `${storeRelease()} && ${makeFile('new-1')}`);
    if (way === 'commit') session.write('commit\n');
    else session.send('do', 'exit 9');
    const over = ['finished', 'undone'];
    await until('it is over', () => session?.exited !== undefined || over.some((word) => session?.has(word)));
    const struck = !existsSync(home.path('armed'));
    rmSync(home.path('armed'), { force: true });
    if (session.exited === undefined) void session.bye();

    const next = new Session(home, shell, { holder: 'the next session', waitTicks: 1000, leaseTicks: 1000 });
    const locked = await next.hear('locked', 'stuck', 'held', 'unlocked');
    expect(await next.bye()).toBe(0);
    const state = home.state();
    if (JSON.stringify(state) !== JSON.stringify(NEW)) expect(state).toEqual(OLD);
    const isNew = state.current === NEW.current;
    expect(locked).toMatch(isNew ? /^locked r2 / : /^locked r1 /);
    if (session.has('committed')) expect(isNew).toBe(true);
    if (session.has('undone')) expect(isNew).toBe(false);
    if (!struck) expect(isNew).toBe(way === 'commit');
    const compose = readFileSync(home.path('shop', isNew ? 'compose.yaml.before-slipway' : 'compose.yaml'), 'utf8');
    expect(compose).toBe('mine: true\n');
    await home.expectNothingLeft();
    return writes();
  } catch (error) {
    const what = `${shell.name}, ${way}, ${death} at write ${at}: ${writes()[at - 1] ?? 'none'}`;
    throw new Error(`${what}\n${String(error)}\nit said: ${session?.lines.join(' | ') ?? ''}`, { cause: error });
  } finally {
    session?.cut();
    home.remove();
  }
}

test.concurrent.each(SHELLS.flatMap((shell) => (['commit', 'undo'] as const).map((way) => ({ shell, way }))))(
  '$shell.name, $way: old or new, wherever it dies',
  async ({ shell, way }) => {
    const writes = await play(shell, way, 1000, 'after');
    // Of the journal, the release, the commit and the end at least.
    expect(writes.length).toBeGreaterThan(way === 'commit' ? 12 : 9);
    const deaths = writes.flatMap((_, at) => DEATHS.map((death) => ({ at: at + 1, death })));
    const failures: unknown[] = [];
    const work = async (): Promise<void> => {
      for (let one = deaths.shift(); one !== undefined; one = deaths.shift()) {
        await play(shell, way, one.at, one.death).catch((error: unknown) => failures.push(error));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (failures.length > 0) throw new Error(failures.map(String).join('\n\n'));
  },
);
