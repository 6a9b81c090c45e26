export declare function compareFolders(committed: string, built: string, label: string): Promise<string[]>;
