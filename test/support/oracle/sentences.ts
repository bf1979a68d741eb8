import ts from 'typescript';

/*
 * Finds the messages that the sources log or throw, with TypeScript's parser. From an expression, it follows constants, branches, fields
 * and the arguments of calls to the texts.
 */

/** Messages with … in place of values, and the expressions whose text was not found. */
export interface Sentences {
  readonly texts: readonly string[];
  /** `path: code` of each expression. */
  readonly unknown: readonly string[];
}

const LEVELS: ReadonlySet<string> = new Set(['fatal', 'error', 'warn', 'log', 'debug', 'verbose']);
const NO_LOGGERS: ReadonlySet<string> = new Set(['console', 'Math']);

/** Reads the messages of some source files. */
export class SentenceReader {
  private readonly files: readonly ts.SourceFile[];
  private readonly nodes: readonly ts.Node[];

  /** @param sources texts of TypeScript files by their paths */
  constructor(sources: Readonly<Record<string, string>>) {
    this.files = Object.entries(sources).map(([path, text]) => ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
    this.nodes = this.files.flatMap((file) => descendants(file));
  }

  /** Messages of all calls of loggers: the first argument, or its property `msg`. */
  logged(): Sentences {
    return this.read(this.nodes.filter(isLogCall).map((call) => call.arguments[0]));
  }

  /** Messages of each `new Name(…)`: its last argument that is not an object literal. */
  errors(names: readonly string[], underPath = ''): Sentences {
    const made = this.nodes.filter(ts.isNewExpression).filter((node) => names.includes(node.expression.getText()));
    const here = made.filter((node) => pathOf(node).startsWith(underPath));
    return this.read(here.map(({ arguments: given = [] as never }) => given.findLast((one) => !ts.isObjectLiteralExpression(one))!));
  }

  /** Messages of all calls of `console.error`. */
  printed(): Sentences {
    const calls = this.nodes.filter(ts.isCallExpression).filter((call) => call.expression.getText() === 'console.error');
    return this.read(calls.map((call) => call.arguments[0]));
  }

  /** Messages that functions return, or add to a list, if `type` is in their return type. */
  returned(type: string): Sentences {
    const made: ts.Expression[] = [];
    const makers = this.nodes.filter(ts.isFunctionLike).filter((node) => new RegExp(`\\b${type}\\b`).test(node.type?.getText() ?? ''));
    for (const node of makers.flatMap(descendants)) {
      if (ts.isReturnStatement(node) && node.expression !== undefined) made.push(...elements(node.expression));
      if (!ts.isCallExpression(node) || !node.expression.getText().endsWith('.push')) continue;
      made.push(...node.arguments.filter((one) => !ts.isSpreadElement(one)));
    }
    return this.read(made);
  }

  private read(expressions: readonly ts.Expression[]): Sentences {
    const found = expressions.map((expression) => ({ expression, texts: this.textsOf(expression) }));
    const unknown = found.filter(({ texts }) => texts === undefined);
    return {
      texts: [...new Set(found.flatMap(({ texts }) => texts ?? []).map(withoutValues))],
      unknown: unknown.map(({ expression }) => `${pathOf(expression)}: ${expression.getText()}`),
    };
  }

  /** All texts that an expression can have; undefined if one of them is unknown. */
  private textsOf(given: ts.Expression, seen: ReadonlySet<ts.Node> = new Set()): readonly string[] | undefined {
    if (seen.has(given)) return undefined;
    const read = (...ones: readonly ts.Expression[]) => all(ones.map((one) => this.textsOf(one, new Set(seen).add(given))));
    let node = given;
    while (isWrapper(node)) node = node.expression;
    if (ts.isStringLiteralLike(node)) return [node.text];
    if (ts.isTemplateExpression(node)) return [node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('')];
    if (ts.isConditionalExpression(node)) return read(node.whenTrue, node.whenFalse);
    if (ts.isBinaryExpression(node)) {
      const [left, right] = [node.left, node.right].map((side) => read(side));
      if (node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
        return left || right ? (left ?? ['…']).flatMap((start) => (right ?? ['…']).map((end) => start + end)) : undefined;
      }
      return /^(\?\?|\|\|)$/.test(node.operatorToken.getText()) ? all([left, right]) : undefined;
    }
    if (ts.isObjectLiteralExpression(node)) {
      const message = node.properties.find((property) => property.name?.getText() === 'msg');
      if (message !== undefined && ts.isPropertyAssignment(message)) return read(message.initializer);
      return message !== undefined && ts.isShorthandPropertyAssignment(message) ? read(message.name) : undefined;
    }
    let values: readonly ts.Expression[] = [];
    if (ts.isIdentifier(node)) values = this.valuesOf(node);
    else if (ts.isPropertyAccessExpression(node) && node.expression.kind === ts.SyntaxKind.ThisKeyword) values = fieldValues(node);
    return values.length > 0 ? read(...values) : undefined;
  }

  /** The values of a name: of a constant, first in the same file, or the arguments given for a parameter. */
  private valuesOf(name: ts.Identifier): readonly ts.Expression[] {
    for (let scope: ts.Node = name.parent; scope !== undefined; scope = scope.parent) {
      if (ts.isFunctionLike(scope)) {
        const index = scope.parameters.findIndex((parameter) => parameter.name.getText() === name.text);
        if (index >= 0) return this.argumentsOf(scope, index);
      }
      if (ts.isBlock(scope) || ts.isSourceFile(scope)) {
        const values = constants(scope, name.text);
        if (values.length > 0) return values;
        // A variable that changes, or the variable of a loop.
        const isDeclared = descendants(scope).some((node) => ts.isVariableDeclaration(node) && node.name.getText() === name.text);
        if (isDeclared && !ts.isSourceFile(scope)) return [];
      }
    }
    const imported = this.files.map((file) => constants(file, name.text)).filter((values) => values.length > 0);
    return imported.length === 1 ? imported[0] : [];
  }

  private argumentsOf(called: ts.SignatureDeclaration, index: number): readonly ts.Expression[] {
    const name = ts.isConstructorDeclaration(called) ? called.parent.name?.text : called.name?.getText();
    const calls = this.nodes.filter((node) => (ts.isConstructorDeclaration(called) ? ts.isNewExpression(node) : ts.isCallExpression(node)));
    return (calls as (ts.NewExpression | ts.CallExpression)[])
      .filter(({ expression }) => (ts.isPropertyAccessExpression(expression) ? expression.name.text : expression.getText()) === name)
      .flatMap((call) => call.arguments?.[index] ?? called.parameters[index].initializer ?? []);
  }
}

/** Whether a node is parentheses or a type assertion. */
function isWrapper(node: ts.Node): node is ts.ParenthesizedExpression | ts.AsExpression | ts.SatisfiesExpression | ts.NonNullExpression {
  return ts.isParenthesizedExpression(node) || ts.isAsExpression(node) || ts.isSatisfiesExpression(node) || ts.isNonNullExpression(node);
}

function isLogCall(node: ts.Node): node is ts.CallExpression {
  if (!ts.isCallExpression(node) || node.arguments.length === 0) return false;
  const { expression: callee } = node;
  if (ts.isElementAccessExpression(callee)) return /logger$/i.test(callee.expression.getText());
  return ts.isPropertyAccessExpression(callee) && LEVELS.has(callee.name.text) && !NO_LOGGERS.has(callee.expression.getText());
}

/** The elements of an array literal, or the element that the arrow function of a `map` makes. */
function elements(list: ts.Expression): ts.Expression[] {
  if (ts.isArrayLiteralExpression(list)) {
    return list.elements.flatMap((one) => (ts.isSpreadElement(one) ? elements(one.expression) : [one]));
  }
  const [mapped] = ts.isCallExpression(list) && list.expression.getText().endsWith('.map') ? list.arguments : [];
  return mapped !== undefined && ts.isArrowFunction(mapped) && !ts.isBlock(mapped.body) ? [mapped.body] : [];
}

/** The value of a constant that is declared in this scope, not in an inner one. */
function constants({ statements }: ts.Block | ts.SourceFile, name: string): ts.Expression[] {
  return [...statements]
    .filter(ts.isVariableStatement)
    .filter(({ declarationList }) => (declarationList.flags & ts.NodeFlags.Const) !== 0)
    .flatMap(({ declarationList }) => Array.from(declarationList.declarations))
    .flatMap((one) => (one.name.getText() === name ? (one.initializer ?? []) : []));
}

/** The values that the class around it sets a field to. */
function fieldValues(access: ts.PropertyAccessExpression): ts.Expression[] {
  const owner = ts.findAncestor(access, ts.isClassLike)!;
  return descendants(owner).flatMap((node) => {
    if (ts.isPropertyDeclaration(node)) return node.name.getText() === access.name.text ? (node.initializer ?? []) : [];
    if (!ts.isBinaryExpression(node) || node.operatorToken.kind !== ts.SyntaxKind.EqualsToken) return [];
    return node.left.getText() === access.getText() ? node.right : [];
  });
}

function all(lists: readonly (readonly string[] | undefined)[]): readonly string[] | undefined {
  return lists.every((list) => list !== undefined) ? lists.flat() : undefined;
}

/** Counts values in a row (`….…`) as one, and also the statement after `run:`. */
function withoutValues(text: string): string {
  return text.replaceAll(/…(?:\.?…)+/g, '…').replace(/\b(run: ).*/i, '$1…');
}

function pathOf(node: ts.Node): string {
  return node.getSourceFile().fileName;
}

function descendants(node: ts.Node): ts.Node[] {
  const found: ts.Node[] = [];
  const visit = (child: ts.Node) => {
    found.push(child);
    ts.forEachChild(child, visit);
  };
  ts.forEachChild(node, visit);
  return found;
}
