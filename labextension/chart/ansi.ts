const SEQUENCE = /\x1b\[([0-9;]*)m/g; // eslint-disable-line no-control-regex
const COLOURS = ['#3e424d', '#e75c58', '#00a250', '#ddb62b', '#208ffb', '#d160c4', '#60c6c8', '#c5c1b4'];
const BRIGHT = ['#282c36', '#b22b31', '#007427', '#b27d12', '#0065ca', '#a03196', '#258f8f', '#a1a6b2'];

interface Style {
  color?: string | undefined;
  backgroundColor?: string | undefined;
  fontWeight?: string | undefined;
  fontStyle?: string | undefined;
  textDecoration?: string | undefined;
}

/** Text with the colours of terminals (ECMA-48, "select graphic rendition") as nodes. */
export function coloured(text: string): Node[] {
  const nodes: Node[] = [];
  let style: Style = {};
  let position = 0;
  const put = (part: string): void => {
    if (part !== '') {
      nodes.push(styled(part, style));
    }
  };
  for (const match of text.matchAll(SEQUENCE)) {
    put(text.slice(position, match.index));
    position = match.index + match[0].length;
    style = applied(style, (match[1] ?? '').split(';').map(Number));
  }
  put(text.slice(position));
  return nodes;
}

function styled(text: string, style: Style): Node {
  const node = document.createTextNode(text);
  if (Object.values(style).every(value => value === undefined)) {
    return node;
  }
  const span = document.createElement('span');
  Object.assign(span.style, style);
  span.append(node);
  return span;
}

/** The style after the numbers of one sequence. */
function applied(before: Style, numbers: number[]): Style {
  let style = before;
  const codes = [...numbers];
  for (let code = codes.shift(); code !== undefined; code = codes.shift()) {
    style = code === 0 ? {} : { ...style, ...change(code, codes) };
  }
  return style;
}

function change(code: number, codes: number[]): Style {
  switch (code) {
    case 1:
      return { fontWeight: 'bold' };
    case 3:
      return { fontStyle: 'italic' };
    case 4:
      return { textDecoration: 'underline' };
    case 22:
      return { fontWeight: undefined };
    case 23:
      return { fontStyle: undefined };
    case 24:
      return { textDecoration: undefined };
    case 38:
      return { color: extended(codes) };
    case 48:
      return { backgroundColor: extended(codes) };
    case 39:
      return { color: undefined };
    case 49:
      return { backgroundColor: undefined };
    default: {
      const colour = (code < 90 ? COLOURS : BRIGHT)[code % 10];
      const tens = Math.floor(code / 10);
      if (tens === 3 || tens === 9) {
        return { color: colour };
      }
      return tens === 4 || tens === 10 ? { backgroundColor: colour } : {};
    }
  }
}

/** A colour of 256 (5;n) or of all (2;r;g;b). */
function extended(codes: number[]): string | undefined {
  if (codes.shift() === 2) {
    return `rgb(${codes.splice(0, 3).join(',')})`;
  }
  const number = codes.shift() ?? 0;
  if (number < 16) {
    return (number < 8 ? COLOURS : BRIGHT)[number % 8];
  }
  if (number >= 232) {
    const level = 8 + 10 * (number - 232);
    return `rgb(${level},${level},${level})`;
  }
  const steps = [Math.floor((number - 16) / 36), Math.floor((number - 16) / 6) % 6, (number - 16) % 6];
  return `rgb(${steps.map(step => (step === 0 ? 0 : 55 + 40 * step)).join(',')})`;
}
