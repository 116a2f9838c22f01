import "./style/index.css";
import { render } from "preact";
import { ChatStore } from "./core/store.ts";
import { App } from "./ui/App.tsx";
import { appOf } from "./ui/address.ts";

const place = document.getElementById("app");
if (place) {
  const chat = new ChatStore(appOf(location.pathname));
  render(<App chat={chat} />, place);
  void chat.start();
}
