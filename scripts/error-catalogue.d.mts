export interface Row {
  readonly area: string;
  readonly file: string;
  /** Name of the class. */
  readonly kind: string;
  readonly message: string;
  readonly hint: string;
}

export interface Catalogue {
  readonly classes: readonly {
    readonly name: string;
    readonly file: string;
    readonly code: string;
    readonly meaning: string;
    /** How many messages it has. */
    readonly rows: number;
  }[];
  readonly rows: readonly Row[];
}

export declare function readCatalogue(repository: string): Promise<Catalogue>;
export declare function renderCatalogue(catalogue: Catalogue): string;
