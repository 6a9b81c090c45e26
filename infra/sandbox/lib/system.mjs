// The machine underneath: running programs, processes that are really ours, locks, mounts, messages.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import process from 'node:process';

/** An error whose message is meant for the user: what happened, where, what to do next. Printed without a stack. */
export class SandboxError extends Error {
  constructor(message, hint) {
    super(hint ? `${message}\n  -> ${hint}` : message);
    this.name = 'SandboxError';
  }
}

const started = Date.now();
let quiet = false;
export function setQuiet(value) {
  quiet = value;
}
/** One line of progress on stderr, with the seconds since the start. */
export function progress(text) {
  if (!quiet) process.stderr.write(`sandbox ${((Date.now() - started) / 1000).toFixed(1).padStart(6)}s  ${text}\n`);
}

/**
 * Runs a program to its end.
 * @param {string[]} argv
 * @param {{input?: string|Buffer, env?: object, cwd?: string, log?: string, check?: boolean, timeoutMs?: number, what?: string, hint?: string}} [options]
 *   log: a file that gets all output; check: throw on a non-zero exit (default true); timeoutMs: then it is killed (code 137); what: for the message
 * @returns {Promise<{code: number, stdout: string, stderr: string}>}
 */
export async function run(argv, options = {}) {
  const { input, env, cwd, log, check = true, timeoutMs, what, hint } = options;
  const logFd = log ? fs.openSync(log, 'a') : undefined;
  const child = spawn(argv[0], argv.slice(1), {
    cwd,
    env: env ? { ...process.env, ...env } : process.env,
    stdio: [input === undefined ? 'ignore' : 'pipe', logFd ?? 'pipe', logFd ?? 'pipe'],
  });
  if (logFd !== undefined) fs.closeSync(logFd);
  const out = [];
  const err = [];
  child.stdout?.on('data', (data) => out.push(data));
  child.stderr?.on('data', (data) => err.push(data));
  child.stdin?.on('error', () => {}); // the program need not read its input
  child.stdin?.end(input);
  const ended = [once(child, 'close')];
  let timer;
  if (timeoutMs !== undefined) {
    // not by "close": what the program started may hold its output open
    const late = new Promise((resolve) => (timer = setTimeout(resolve, timeoutMs, [null, 'SIGKILL'])));
    ended.push(
      late.then((end) => {
        child.kill('SIGKILL');
        for (const stream of [child.stdout, child.stderr]) stream?.destroy();
        return end;
      }),
    );
  }
  let code;
  try {
    const [status, signal] = await Promise.race(ended);
    code = status ?? 128 + signalNumber(signal);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    throw new SandboxError(
      `The program ${argv[0]} is not on this machine.`,
      hint ?? 'Install it, or run "up", which installs what it needs with apt-get.',
    );
  } finally {
    clearTimeout(timer);
  }
  const result = { code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
  if (check && code !== 0) {
    const said = log
      ? `Its output is in ${log}; the end of it:\n${indent(tail(fs.readFileSync(log, 'utf8')))}`
      : indent(tail(result.stderr || result.stdout));
    throw new SandboxError(`${what ?? argv.join(' ')} failed with exit code ${code}.\n${said}`, hint);
  }
  return result;
}

function signalNumber(signal) {
  return { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[signal] ?? 1;
}
function tail(text) {
  return text.trimEnd().split('\n').slice(-12).join('\n');
}
function indent(text) {
  return text.replace(/^/gm, '    ');
}

/**
 * Starts a program that outlives this process: a session of its own, no terminal, output to a file.
 * @returns {{pid: number, startTime: string}}
 */
export function startDetached(argv, { log, env = {}, cwd = '/' }) {
  const fd = fs.openSync(log, 'a');
  const child = spawn(argv[0], argv.slice(1), {
    cwd,
    detached: true,
    stdio: ['ignore', fd, fd],
    // Not the caller's environment: its secrets have no place in a process that stays.
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...env },
  });
  fs.closeSync(fd);
  child.on('error', () => {});
  if (child.pid === undefined) throw new SandboxError(`Could not start ${argv[0]}.`, `See ${log}.`);
  child.unref();
  return { pid: child.pid, startTime: readStartTime(child.pid) };
}

/** Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), undefined when there is none (or a zombie). */
export function readStartTime(pid) {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

const bootId = () => fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** Writes "PID START_TIME BOOT_ID": enough to know later whether it is still the same process. */
export function writePidFile(file, { pid, startTime }) {
  fs.writeFileSync(file, `${pid} ${startTime} ${bootId()}\n`);
}

/** The PID in the file if that very process still runs, else undefined. */
export function readPidFile(file) {
  const text = readText(file);
  if (!text) return undefined;
  const [pid, startTime, boot] = text.trim().split(' ');
  if (boot && boot !== bootId()) return undefined;
  return startTime !== undefined && readStartTime(pid) === startTime ? Number(pid) : undefined;
}

/** Ends the process that a pid file names, if it still runs, and removes the file. */
export async function endPidFile(file, signal = 'SIGTERM', graceMs = 3000) {
  const pid = readPidFile(file);
  if (pid !== undefined) {
    sendSignal(pid, signal);
    if (!(await waitUntil(() => readPidFile(file) === undefined, graceMs, 10))) {
      sendSignal(pid, 'SIGKILL');
      await waitUntil(() => readPidFile(file) === undefined, 3000, 10);
    }
  }
  fs.rmSync(file, { force: true });
}

export function sendSignal(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

export function readText(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again and again until the answer is truthy; returns it, or undefined after the time-out. */
export async function waitUntil(ask, timeoutMs, everyMs = 50) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() >= end) return undefined;
    await sleep(everyMs);
  }
}

/**
 * Holds the kernel's lock on a file while work runs. The lock goes with this process, however it ends: a child of ours holds
 * it and ends when its input does.
 * @param {{waiting?: string, remove?: boolean}} [options] waiting: said when it takes long; remove: take the file away in the end
 */
export async function withLock(file, work, { waiting, remove = false } = {}) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const slow = setTimeout(() => progress(waiting ?? `waiting for another sandbox command (it holds ${file})`), 300);
  let holder;
  try {
    while (holder === undefined) holder = await takeLock(file);
  } finally {
    clearTimeout(slow);
  }
  try {
    return await work();
  } finally {
    if (remove) fs.rmSync(file, { force: true });
    await letGo(holder);
  }
}

/** @returns the child that holds the lock; undefined when the file was taken away while we waited for it */
async function takeLock(file) {
  const script =
    'exec 9>>"$1" && flock -x 9 && if [ "$1" -ef /proc/self/fd/9 ]; then echo locked; else echo stale; fi; exec cat >/dev/null';
  const holder = spawn('bash', ['-c', script, 'lock', file], { stdio: ['pipe', 'pipe', 'inherit'] });
  holder.stdin.on('error', () => {});
  const [said] = await Promise.race([
    once(holder.stdout, 'data'),
    once(holder, 'exit').then(([code]) => {
      throw new SandboxError(`Could not lock ${file} (exit code ${code}).`, 'May this user write there?');
    }),
  ]);
  if (said.toString().startsWith('locked')) return holder;
  await letGo(holder);
  return undefined;
}

async function letGo(holder) {
  const ended = holder.exitCode === null && holder.signalCode === null ? once(holder, 'exit') : undefined;
  holder.stdin.end();
  await ended;
}

/** Mount points below a folder (or the folder itself), deepest first. */
export function listMounts(dir) {
  return fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4]?.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8))))
    .filter((point) => point === dir || point?.startsWith(`${dir}/`))
    .reverse();
}

/** Unmounts all below a folder and removes it; refuses to remove what is still mounted. */
export async function removeTree(dir) {
  for (const point of listMounts(dir)) await unmount(point);
  if (listMounts(dir).length > 0)
    throw new SandboxError(`Something is still mounted below ${dir}.`, `Look at: grep ${dir} /proc/self/mountinfo`);
  await run(['rm', '-rf', '--one-file-system', dir]);
}

export async function unmount(point) {
  for (let attempt = 0; attempt < 20; attempt++) {
    if ((await run(['umount', point], { check: false })).code === 0 || !listMounts(point).includes(point)) return;
    await sleep(50);
  }
  // Somebody's shell stands in it: take it out of sight now, the kernel frees it when they leave.
  await run(['umount', '-l', point], { check: false });
}
