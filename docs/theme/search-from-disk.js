// Search in a page opened from disk. Browsers start no worker for a `file:` page, so this stands in
// for `Worker`: it runs the worker's script in a hidden frame and hands messages to and fro.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inner = this.frame.contentWindow;
      inner.postMessage = (data) => {
        const copy = structuredClone(data);
        setTimeout(() => this.onmessage?.({ data: copy }));
      };
      const script = inner.document.createElement("script");
      this.loaded = new Promise((resolve, reject) => {
        script.onload = () => resolve(inner);
        script.onerror = () => reject(new Error(`cannot load ${url}`));
      });
      this.loaded.catch((error) => this.onerror?.(error));
      script.src = url;
      inner.document.head.append(script);
    }
    postMessage(data) {
      const copy = structuredClone(data);
      this.loaded.then((inner) => inner.onmessage({ data: copy }), () => {});
    }
    terminate() {
      this.frame.remove();
    }
  };
}
