/** What the code of an action reads and sets, found in its sources. */
import { existsSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import ts from 'typescript';

type ReadText = (path: string) => string | undefined;

export function readFrom(root: string): ReadText {
  return (path) => (existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8') : undefined);
}

interface Module {
  readonly path: string;
  readonly source: ts.SourceFile;
  /** Functions of this file by name. */
  readonly functions: ReadonlyMap<string, ts.FunctionDeclaration>;
  /** Local name to where it comes from. */
  readonly imports: ReadonlyMap<string, { readonly path: string; readonly name: string }>;
}

/**
 * The inputs that an action's inputs.ts reads: the literal names in `input('...')`, and those handed to functions, here or
 * in shared/src/inputs or shared/src/engine/inputs.ts, that pass them on to `input(...)`.
 *
 * @throws Error for a name that is not a literal
 */
export function findInputs(action: string, read: ReadText): string[] {
  const path = `${action}/src/inputs.ts`;
  const modules = new Map<string, Module>();
  const main = load(path, read, modules);
  if (main === undefined) throw new Error(`there is no ${path}`);
  const names = new Set<string>();
  collect(main.source, main, undefined, { names, done: new Set(), load: (other) => load(other, read, modules) });
  return [...names].sort();
}

function load(path: string, read: ReadText, modules: Map<string, Module>): Module | undefined {
  const known = modules.get(path);
  if (known) return known;
  const text = read(path);
  if (text === undefined) return undefined;
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const functions = new Map<string, ts.FunctionDeclaration>();
  const imports = new Map<string, { path: string; name: string }>();
  for (const statement of source.statements) {
    if (ts.isFunctionDeclaration(statement) && statement.name) functions.set(statement.name.text, statement);
    if (!ts.isImportDeclaration(statement) || !ts.isStringLiteral(statement.moduleSpecifier)) continue;
    const specifier = statement.moduleSpecifier.text;
    const target = specifier.startsWith('#shared/')
      ? `shared/src/${specifier.slice('#shared/'.length)}.ts`
      : `${posix.join(posix.dirname(path), specifier)}.ts`;
    const bindings = statement.importClause?.namedBindings;
    if (!bindings || !ts.isNamedImports(bindings)) continue;
    for (const element of bindings.elements) {
      imports.set(element.name.text, { path: target, name: element.propertyName?.text ?? element.name.text });
    }
  }
  const module = { path, source, functions, imports };
  modules.set(path, module);
  return module;
}

interface Search {
  readonly names: Set<string>;
  readonly done: Set<ts.Node>;
  readonly load: (path: string) => Module | undefined;
}

/** @param within the function that is looked through, for its parameters */
function collect(node: ts.Node, module: Module, within: ts.FunctionDeclaration | undefined, search: Search): void {
  if (search.done.has(node)) return;
  search.done.add(node);
  const walk = (child: ts.Node, enclosing: ts.FunctionDeclaration | undefined): void => {
    const current = ts.isFunctionDeclaration(child) ? child : enclosing;
    if (ts.isCallExpression(child)) {
      for (const index of nameArguments(child, module, search)) {
        const argument = child.arguments[index];
        if (argument === undefined) continue;
        if (ts.isStringLiteralLike(argument)) search.names.add(argument.text);
        else if (!isParameter(argument, current)) {
          throw new Error(`${module.path}: the name of an input is not a literal: ${argument.getText()}`);
        }
      }
      const called = resolveFunction(child, module, search);
      // What a shared reader reads by itself (the connection), or by others beside it.
      if (called) collect(called.declaration, called.module, called.declaration, search);
    }
    ts.forEachChild(child, (next) => {
      walk(next, current);
    });
  };
  walk(node, within);
}

/** Which arguments of a call are names of inputs. */
function nameArguments(call: ts.CallExpression, module: Module, search: Search): number[] {
  if (isRead(call)) return [0];
  const called = resolveFunction(call, module, search);
  if (!called) return [];
  return called.declaration.parameters.flatMap((parameter, index) =>
    ts.isIdentifier(parameter.name) && reads(called.declaration, parameter.name.text, called.module, search)
      ? [index]
      : [],
  );
}

const reading = new Set<string>();

/** Whether a function hands its parameter on as the name of an input. */
function reads(declaration: ts.FunctionDeclaration, parameter: string, module: Module, search: Search): boolean {
  const key = `${module.path}#${declaration.name?.text ?? ''}#${parameter}`;
  // A function that calls itself adds nothing.
  if (reading.has(key)) return false;
  reading.add(key);
  let found = false;
  const walk = (node: ts.Node): void => {
    if (found) return;
    if (ts.isCallExpression(node)) {
      found = nameArguments(node, module, search).some((index) => {
        const argument = node.arguments[index];
        return argument !== undefined && ts.isIdentifier(argument) && argument.text === parameter;
      });
    }
    ts.forEachChild(node, walk);
  };
  if (declaration.body) walk(declaration.body);
  reading.delete(key);
  return found;
}

function isRead(call: ts.CallExpression): boolean {
  const callee = ts.isPropertyAccessExpression(call.expression) ? call.expression.name : call.expression;
  return ts.isIdentifier(callee) && (callee.text === 'input' || callee.text === 'rawInput');
}

function isParameter(argument: ts.Expression, enclosing: ts.FunctionDeclaration | undefined): boolean {
  return (
    ts.isIdentifier(argument) &&
    enclosing !== undefined &&
    enclosing.parameters.some((one) => ts.isIdentifier(one.name) && one.name.text === argument.text)
  );
}

/** Where actions share readers of inputs. */
const SHARED_READERS = /^shared\/src\/(inputs\/|engine\/inputs\.ts$)/;

function resolveFunction(
  call: ts.CallExpression,
  module: Module,
  search: Search,
): { readonly declaration: ts.FunctionDeclaration; readonly module: Module } | undefined {
  if (!ts.isIdentifier(call.expression)) return undefined;
  const own = module.functions.get(call.expression.text);
  if (own) return { declaration: own, module };
  const imported = module.imports.get(call.expression.text);
  if (imported === undefined || !SHARED_READERS.test(imported.path)) return undefined;
  const other = search.load(imported.path);
  const declaration = other?.functions.get(imported.name);
  return other && declaration && { declaration, module: other };
}

/**
 * The outputs that an action sets: the literal names in `setOutput('...')`; where a name is not literal, the members of the
 * interface `Outputs` of report.ts, which then says what there is.
 */
export function findOutputs(action: string, paths: readonly string[], read: ReadText): string[] {
  const names = new Set<string>();
  const computed: string[] = [];
  for (const path of paths.filter((one) => one.startsWith(`${action}/src/`) && one.endsWith('.ts'))) {
    const source = ts.createSourceFile(path, read(path) ?? '', ts.ScriptTarget.Latest, true);
    const walk = (node: ts.Node): void => {
      if (
        ts.isCallExpression(node) &&
        ts.isPropertyAccessExpression(node.expression) &&
        node.expression.name.text === 'setOutput'
      ) {
        const name = node.arguments[0];
        if (name !== undefined && ts.isStringLiteralLike(name)) names.add(name.text);
        else computed.push(path);
      }
      ts.forEachChild(node, walk);
    };
    walk(source);
  }
  if (computed.length > 0) {
    const path = `${action}/src/report.ts`;
    const members = findMembers(read(path) ?? '', 'Outputs');
    if (members.length === 0) {
      throw new Error(
        `${computed.join(', ')} sets an output whose name is not a literal, and ${path} has no interface Outputs`,
      );
    }
    for (const member of members) names.add(member);
  }
  return [...names].sort();
}

function findMembers(text: string, name: string): string[] {
  const source = ts.createSourceFile('report.ts', text, ts.ScriptTarget.Latest, true);
  return source.statements.flatMap((statement) =>
    ts.isInterfaceDeclaration(statement) && statement.name.text === name
      ? statement.members.flatMap((member) =>
          member.name && (ts.isIdentifier(member.name) || ts.isStringLiteral(member.name)) ? [member.name.text] : [],
        )
      : [],
  );
}
