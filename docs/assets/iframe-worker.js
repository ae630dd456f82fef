// A page that is opened from a disk may start no worker: there the search runs in a hidden frame instead.
// The name is the one that the generator looks for, so that it adds no script from the network.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true });
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.answer(structuredClone(data));
      const script = Object.assign(inside.document.createElement("script"), { src: new URL(url, location) });
      this.ready = new Promise((loaded) => { script.onload = loaded; });
      inside.document.body.append(script);
    }
    answer(data) {
      const event = new MessageEvent("message", { data });
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }
    postMessage(given) {
      const data = structuredClone(given); // neither side may change what the other holds
      this.ready.then(() => this.frame.contentWindow?.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
