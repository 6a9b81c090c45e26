export declare function renderMarkdown(
  markdown: string,
  options?: {
    readonly width?: number;
    readonly bold?: (text: string) => string;
    readonly dim?: (text: string) => string;
  },
): string;
export declare function wrapText(text: string, width: number, hang?: number): string[];
