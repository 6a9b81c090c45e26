export declare function compareFolders(committed: string, built: string, label: string): Promise<string[]>;
export function findIrreproducible(options: {
  repository?: string;
  registry?: string[];
  built: string;
}): Promise<string[]>;
