// The palette of commands.

/** @import { Command, Context } from "./types.js" */

/** @param {Context} ctx @param {Command[]} commands */
export function openPalette(ctx, commands) {}

/** @param {string} key @param {Context} ctx @param {Command[]} commands */
export function press(key, ctx, commands) {}
