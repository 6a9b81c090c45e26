// The process behind argv-sampler.ts: prints [pid, argv] for each new pair, [0, []] after the first look,
// and ends with its standard input.
import { readdirSync, readFileSync } from 'node:fs';

const interval = Number(process.argv[2]);
const seen = new Map();

function readArguments(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // gone meanwhile
  }
}

function look() {
  const present = new Set();
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    present.add(pid);
    const text = readArguments(pid);
    // A process may change its arguments by exec, so what counts is the pair.
    if (text === '' || seen.get(pid) === text) continue;
    seen.set(pid, text);
    process.stdout.write(`${JSON.stringify([Number(pid), text.replace(/\0$/, '').split('\0')])}\n`);
  }
  for (const pid of seen.keys()) if (!present.has(pid)) seen.delete(pid);
}

look();
process.stdout.write('[0,[]]\n');
const timer = setInterval(look, interval);
process.stdin.resume();
process.stdin.on('end', () => {
  clearInterval(timer);
  look();
});
