/** Entry of fake.html; not part of the build. */
import "../style/index.css";
import { render } from "preact";
import { App } from "./App.tsx";
import { fakeChat } from "./fake.ts";

const place = document.getElementById("app");
const state = new URLSearchParams(location.search).get("fake") ?? "chat";
if (place) render(<App chat={fakeChat(state)} />, place);
