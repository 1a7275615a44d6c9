// xterm.js under a policy without inline styles.
//
// It writes style elements and style attributes, which `style-src 'self'` refuses: a browser cannot
// know who wrote them. Sheets and properties that a script sets are allowed. So style elements of
// this page fill a constructed sheet, and spans set their properties. (The option `documentOverride`
// of xterm.js 6.0 does not reach every place that makes elements.)

const make = document.createElement.bind(document);
const makers = { style: styleElement, span: spanElement };

document.createElement = (name, options) => (makers[name] ? makers[name]() : make(name, options));

function styleElement() {
  const sheet = new CSSStyleSheet();
  const element = make("template"); // holds the place; has no effect itself
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(element, "textContent", {
    get: () => "",
    set: (rules) => sheet.replaceSync(rules),
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

function spanElement() {
  const element = make("span");
  element.setAttribute = (name, value) => {
    if (name === "style") element.style.cssText = value;
    else Element.prototype.setAttribute.call(element, name, value);
  };
  return element;
}
