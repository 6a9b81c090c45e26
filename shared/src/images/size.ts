/** Sizes as people read them; decimal, like Docker's own output. */
const UNITS: readonly (readonly [string, number])[] = [
  ['TB', 1e12],
  ['GB', 1e9],
  ['MB', 1e6],
  ['kB', 1e3],
];

function unitFor(bytes: number): readonly [string, number] {
  // 999,950 bytes would be rounded to 1000.0 kB.
  return UNITS.find(([, size]) => bytes >= size * 0.99995) ?? ['B', 1];
}

function inUnit(bytes: number, [name, size]: readonly [string, number]): string {
  return name === 'B' ? String(Math.round(bytes)) : (bytes / size).toFixed(1);
}

/** `41.2 MB`. */
export function formatBytes(bytes: number): string {
  const unit = unitFor(bytes);
  return `${inUnit(bytes, unit)} ${unit[0]}`;
}

/** `41.2 of 120.4 MB`. */
export function formatBytesOf(done: number, total: number): string {
  const unit = unitFor(total);
  return `${inUnit(done, unit)} of ${inUnit(total, unit)} ${unit[0]}`;
}
