// The bundle among the app's assets, which lie uncompressed in the installed package.
package com.example.starter

import android.content.res.AssetManager
import java.io.File
import java.io.FileInputStream
import java.io.FileOutputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.security.MessageDigest

/**
 * The directory of the bundle, written once for each version of it: onnxruntime maps files, so that
 * weights are paged in as they are used, but no part of a package.
 */
fun unpack(assets: AssetManager, into: File): File {
    val record = mapped(assets, "bundle/bundle.json")
    val hash = MessageDigest.getInstance("SHA-256").apply { update(record) }.digest()
    val folder = File(into, "model-" + hash.take(8).joinToString("") { "%02x".format(it) })
    if (!folder.isDirectory) {
        val old = into.listFiles { file -> file.name.startsWith("model-") }
        old.orEmpty().forEach { it.deleteRecursively() }
        val partial = File(into, "model-partial")
        for (part in listOf("bundle", "inputs")) {
            val target = File(partial, part).apply { mkdirs() }
            for (name in assets.list(part).orEmpty()) {
                val content = mapped(assets, "$part/$name")
                FileOutputStream(File(target, name)).channel.use { channel ->
                    while (content.hasRemaining()) channel.write(content)
                }
            }
        }
        check(partial.renameTo(folder)) { "$folder cannot be written" }
    }
    return File(folder, "bundle")
}

/** An uncompressed asset, mapped into memory. */
private fun mapped(assets: AssetManager, name: String): ByteBuffer =
    assets.openFd(name).use { part ->
        FileInputStream(part.fileDescriptor).channel.use {
            it.map(FileChannel.MapMode.READ_ONLY, part.startOffset, part.length)
        }
    }
