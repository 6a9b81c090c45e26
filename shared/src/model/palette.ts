/** Colours for the log: pure. The runner's log viewer shows ANSI colours; `NO_COLOR` (https://no-color.org) turns them off. */
export interface Palette {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly change: (text: string) => string;
  readonly quiet: (text: string) => string;
}

export function createPalette(enabled: boolean): Palette {
  const paint =
    (code: number) =>
    (text: string): string =>
      enabled && text !== '' ? `\u001b[${code}m${text}\u001b[0m` : text;
  return { good: paint(32), bad: paint(31), change: paint(33), quiet: paint(90) };
}
