export declare const actions: readonly string[];
