export function buildActions(options?: {
  out?: string;
  only?: string[];
  repository?: string;
  registry?: string[];
}): Promise<{ action: string; files: { name: string; bytes: number }[]; seconds: number }[]>;
export function toAscii(text: string): string;
