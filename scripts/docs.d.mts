export declare function renewTables(readme: string, manifestText: string, label: string): string;
export declare function renderWorkflow(text: string): string;
export declare function renewReadmes(options: {
  readonly check: boolean;
  readonly repository?: string;
  readonly registry?: readonly string[];
}): Promise<string[]>;
