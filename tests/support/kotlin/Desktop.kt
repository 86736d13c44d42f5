// What MainActivity does, on a desktop: unpack the assets, then the self-test and the answers.
package com.example.starter

import android.content.res.AssetManager
import java.io.File
import kotlin.system.exitProcess
import kotlinx.coroutines.runBlocking

fun main(arguments: Array<String>): Unit = runBlocking {
    val (assets, files) = arguments.take(2).map(::File)
    val folder = unpack(AssetManager(assets), files)
    val failures = Model.load(folder).use { model ->
        selfTest(model, folder, ::println).also {
            if (it == 0) model.show(arguments.drop(2)).forEach(::println)
        }
    }
    exitProcess(if (failures == 0) 0 else 1)
}
