// xterm.js under a policy without inline styles.
//
// It writes style elements and style attributes, which `style-src 'self'` refuses, and rightly: it
// cannot know who wrote them. Style sheets and properties that a script constructs are allowed. So
// xterm.js gets a document whose style elements fill a constructed sheet, and whose spans set
// their properties.

/** Return a document for the option `documentOverride` of a terminal. */
export function strictDocument() {
  const makers = { style: styleElement, span: spanElement };
  return new Proxy(document, {
    get(target, key) {
      if (key === "createElement") return (name) => (makers[name] ?? plain)(name);
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
    set: (target, key, value) => Reflect.set(target, key, value, target),
  });
}

const plain = (name) => document.createElement(name);

function styleElement() {
  const sheet = new CSSStyleSheet();
  const element = document.createElement("template"); // holds the place; has no effect itself
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
  const element = document.createElement("span");
  element.setAttribute = (name, value) => {
    if (name === "style") element.style.cssText = value;
    else Element.prototype.setAttribute.call(element, name, value);
  };
  return element;
}
